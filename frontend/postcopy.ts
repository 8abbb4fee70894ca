/**
 * The front-end's part of a postcopy migration, where the guest arrives (vhost-user: POSTCOPY_ADVISE
 * to POSTCOPY_END, and SET_MEM_TABLE between them).
 */
import { has } from "../core/features.ts";
import { MemTableHeader, Region, U64 } from "../core/payloads.ts";
import { frontEndMessages, ProtocolFeature } from "../core/protocol.ts";
import type { Fd } from "../ffi/mod.ts";
import type { Connection } from "./connection.ts";
import { BackEndError } from "./errors.ts";
import type { GuestRegion } from "./guest-memory.ts";
import { encodeMemoryTable } from "./memory-messages.ts";

const M = frontEndMessages;

/** Who has the guest's pages. It must not need the thread that talks to the back-end. */
export interface PageServer {
  /** The guest has stopped: its memory is elsewhere from now on, its regions' files are empty. */
  leave(): void;
  /**
   * Serves the back-end's faults, which `fd` (not its own) tells. Region i is at `addresses[i]` of
   * the back-end's address space.
   */
  serve(fd: Fd, addresses: readonly number[]): void;
}

export class Postcopy implements Disposable {
  /** The back-end's userfaultfd. */
  readonly fd: Fd;
  readonly #connection: Connection;

  /** POSTCOPY_ADVISE. Throws `BackEndError` "refused" when the back-end has no userfaultfd. */
  constructor(connection: Connection, protocol: bigint) {
    if (!has(protocol, ProtocolFeature.PAGEFAULT)) {
      throw new BackEndError("refused", "The back-end does not offer postcopy migration");
    }
    this.#connection = connection;
    const [fd] = connection.request(M.POSTCOPY_ADVISE).fds;
    if (fd === undefined) {
      throw new BackEndError("refused", "The back-end refused POSTCOPY_ADVISE");
    }
    this.fd = fd;
  }

  listen(): void {
    this.#connection.command(M.POSTCOPY_LISTEN);
  }

  /** Shares memory that has not come. The back-end may touch it when this returns. */
  share(regions: readonly GuestRegion[], server: PageServer): void {
    server.serve(this.fd, this.sendTable(regions));
    this.confirmTable();
  }

  /** Sends the memory table. Returns the regions' addresses in the back-end. */
  sendTable(regions: readonly GuestRegion[]): number[] {
    const sent = encodeMemoryTable(regions);
    const fds = regions.map(({ fd }) => fd);
    this.#connection.send(M.SET_MEM_TABLE, sent, fds);
    const row = { ...M.SET_MEM_TABLE, reply: { payload: "memTable" } } as const;
    const { payload } = this.#connection.reply(row);
    if (payload.length !== sent.length) {
      const message = `SET_MEM_TABLE of ${sent.length} bytes is answered by ${payload.length}`;
      throw new BackEndError("malformed", message);
    }
    return regions.map((_, i) =>
      Number(Region.decode(payload, MemTableHeader.size + i * Region.size).userAddress),
    );
  }

  /** Answers the back-end's addresses: faults are served. As QEMU does it, with a u64. */
  confirmTable(): void {
    this.#connection.send(M.SET_MEM_TABLE, U64.encode({ value: 0n }));
  }

  /** POSTCOPY_END: all pages have come. */
  end(): void {
    const { value } = U64.decode(this.#connection.request(M.POSTCOPY_END).payload);
    if (value !== 0n) throw new BackEndError("refused", `POSTCOPY_END is answered by ${value}`);
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}
