/**
 * Messages of the GPU protocol on a socket that never makes anybody wait: what does not fit it goes on
 * when there is room again, and the next message is made only then, of what there is to say by then.
 */
import type { Host } from "../../../core/device.ts";
import type { Watch } from "../../../core/loop.ts";
import { EPOLLIN, EPOLLOUT, type Fd, MessageBuffer, SystemError } from "../../../ffi/mod.ts";
import type { Settle } from "../display.ts";
import { MessageHeader, Payload, REPLY } from "./gpu-protocol.ts";

/** Bytes of pixels in one message: about what a socket takes at once, and what a cache holds. */
export const BAND = 256 * 1024;

/** Messages in a row before others get their turn. */
const BURST = 256;

const MAX_REPLY = MessageHeader.size + Payload.edid;

/** A request whose reply is still to come. */
interface Expected {
  readonly request: number;
  /** Bytes of the reply's payload. */
  readonly size: number;
  readonly settle: Settle;
}

export interface SocketEvents {
  /** Makes the next message with `begin`, or returns false when there is nothing to say. */
  next(): boolean;
  /** The socket is closed. `reason` is null when the front-end has closed it. */
  closed(reason: string | null): void;
}

export class GpuSocket implements Disposable {
  readonly #fd: Fd;
  readonly #events: SocketEvents;
  readonly #watch: Watch;
  readonly #out = new MessageBuffer(MessageHeader.size + Payload.update + BAND);
  /** Of the message that was begun. */
  readonly payload: Uint8Array = this.#out.data.subarray(MessageHeader.size);
  readonly #in = new MessageBuffer(MAX_REPLY);
  readonly #expected: Expected[] = [];
  /** The part of the message in `#out` that is not sent yet. */
  #from = 0;
  #to = 0;
  #received = 0;
  #blocked = false;

  /** Takes `fd`. */
  constructor(fd: Fd, host: Pick<Host, "watch">, events: SocketEvents) {
    this.#fd = fd;
    this.#events = events;
    this.#watch = host.watch(fd.number, (ready) => {
      if ((ready & ~EPOLLOUT) !== 0) this.#receive();
      if (!fd.closed && (ready & EPOLLOUT) !== 0) this.#unblock();
    });
  }

  get closed(): boolean {
    return this.#fd.closed;
  }

  /** Begins a message. Its payload, of `size` bytes, is then written to `payload`. */
  begin(request: number, size: number): void {
    const { view } = this.#out;
    view.setUint32(MessageHeader.request, request, true);
    view.setUint32(MessageHeader.flags, 0, true);
    view.setUint32(MessageHeader.length, size, true);
    this.#from = 0;
    this.#to = MessageHeader.size + size;
  }

  /** Has the reply to the message that was begun, `size` bytes, given to `settle`. */
  expect(request: number, size: number, settle: Settle): void {
    this.#expected.push({ request, size, settle });
  }

  /** Writes a number at an offset of the payload. */
  setU32(at: number, value: number): void {
    this.#out.view.setUint32(MessageHeader.size + at, value, true);
  }

  /** Copies bytes to an offset of the payload. */
  setBytes(at: number, bytes: Uint8Array): void {
    this.payload.set(bytes, at);
  }

  /** Sends as much as there is to say and the socket takes. */
  pump(): void {
    if (this.#blocked || this.#fd.closed) return;
    try {
      for (let left = BURST; left > 0; ) {
        if (this.#from === this.#to) {
          if (!this.#events.next()) return;
          left--;
        }
        const sent = this.#out.send(this.#fd, this.#from, this.#to - this.#from);
        if (sent < 0) break;
        this.#from += sent;
      }
      this.#blocked = true;
      this.#watch.modify(EPOLLIN | EPOLLOUT);
    } catch (error) {
      this.#close(reasonOf(error));
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    this.#watch[Symbol.dispose]();
    this.#fd.close();
    for (const { settle } of this.#expected.splice(0)) settle(null);
  }

  #unblock(): void {
    this.#blocked = false;
    this.#watch.modify(EPOLLIN);
    this.pump();
  }

  #close(reason: string | null): void {
    this[Symbol.dispose]();
    this.#events.closed(reason);
  }

  #receive(): void {
    try {
      while (!this.#fd.closed) {
        const got = this.#in.receive(this.#fd, this.#received, MAX_REPLY - this.#received);
        for (const fd of this.#in.received.splice(0)) fd.close();
        if (got === 0) return this.#close(null);
        if (got < 0) return;
        this.#received += got;
        const wrong = this.#takeReplies();
        if (wrong !== null) return this.#close(wrong);
      }
    } catch (error) {
      this.#close(reasonOf(error));
    }
  }

  /** Takes the whole replies that are there. Returns what is wrong with them. */
  #takeReplies(): string | null {
    const { view, data } = this.#in;
    while (this.#received >= MessageHeader.size) {
      const [expected] = this.#expected;
      const request = view.getUint32(MessageHeader.request, true);
      const size = view.getUint32(MessageHeader.length, true);
      if (expected === undefined || expected.request !== request) {
        return `it answers request ${request}, which was not made`;
      }
      if (view.getUint32(MessageHeader.flags, true) !== REPLY || size !== expected.size) {
        return `its answer to request ${request} is malformed`;
      }
      const end = MessageHeader.size + size;
      if (this.#received < end) return null;
      const payload = data.slice(MessageHeader.size, end);
      data.copyWithin(0, end, this.#received);
      this.#received -= end;
      this.#expected.shift();
      expected.settle(payload);
    }
    return null;
  }
}

/** What a socket that failed died of; null when the other side has left, which front-ends may. */
function reasonOf(error: unknown): string | null {
  const left = error instanceof SystemError && ["ECONNRESET", "EPIPE"].includes(error.code);
  return left ? null : (error as Error).message;
}
