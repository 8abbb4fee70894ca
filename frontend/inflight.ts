/**
 * A region in which the back-end records what it has in flight (vhost-user: Inflight I/O tracking). The
 * front-end keeps it and never looks inside; it outlives connections and back-ends.
 */
import { Inflight } from "../core/payloads.ts";
import { frontEndMessages as M } from "../core/protocol.ts";
import type { Fd } from "../ffi/mod.ts";
import type { Connection } from "./connection.ts";
import { BackEndError } from "./errors.ts";

export class InflightArea implements Disposable {
  readonly queues: number;
  readonly queueSize: number;
  /** Bytes of the region, and where it begins in its file. */
  readonly size: number;
  readonly offset: number;
  readonly fd: Fd;

  private constructor(fields: Omit<InflightArea, "give" | typeof Symbol.dispose>) {
    this.queues = fields.queues;
    this.queueSize = fields.queueSize;
    this.size = fields.size;
    this.offset = fields.offset;
    this.fd = fields.fd;
  }

  /** Has the back-end make a region for so many rings of so many descriptors at most. */
  static ask(connection: Connection, queues: number, queueSize: number): InflightArea {
    const request = Inflight.encode({ queues, queueSize });
    const { payload, fds } = connection.request(M.GET_INFLIGHT_FD, request);
    const reply = Inflight.decode(payload);
    const [fd] = fds;
    const size = Number(reply.size);
    const offset = Number(reply.offset);
    if (fd === undefined || size === 0 || fd.stat().size < size + offset) {
      fd?.close();
      const what = fd === undefined ? "no descriptor" : `${size} bytes at ${offset}`;
      throw new BackEndError("malformed", `GET_INFLIGHT_FD is answered by ${what}`);
    }
    return new InflightArea({ queues, queueSize, size, offset, fd });
  }

  /** Gives the region to a back-end, before its rings are started. */
  give(connection: Connection): void {
    const { queues, queueSize, size, offset } = this;
    const area = { size: BigInt(size), offset: BigInt(offset), queues, queueSize };
    connection.command(M.SET_INFLIGHT_FD, Inflight.encode(area), [this.fd]);
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}
