/**
 * Requests of the back-end to the front-end, on the socket of SET_BACKEND_REQ_FD
 * (vhost-user: Back-end message types).
 *
 * Nothing here waits: an acknowledgement arrives as an event, because the front-end may itself be
 * waiting for us on the main socket.
 */
import { EPOLLIN, type Fd, MessageBuffer } from "../ffi/mod.ts";
import type { Log } from "./log.ts";
import type { Loop, Watch } from "./loop.ts";
import { Header, U64 } from "./payloads.ts";
import { type BackEndMessage, backEndMessages, Flag } from "./protocol.ts";

export class RequestChannel implements Disposable {
  readonly #socket: Fd;
  readonly #log: Log;
  readonly #watch: Watch;
  readonly #acknowledged: boolean;
  readonly #out = new MessageBuffer(256);
  readonly #in = new MessageBuffer(Header.size + U64.size);
  #have = 0;
  #open = true;

  /** Takes `socket`. `acknowledged`: REPLY_ACK is negotiated, so requests ask for an answer. */
  constructor(socket: Fd, loop: Loop, log: Log, acknowledged: boolean) {
    this.#socket = socket;
    this.#log = log;
    this.#acknowledged = acknowledged;
    this.#watch = loop.watch(socket.number, EPOLLIN, () => this.#readable());
  }

  /** Sends a request. One that the front-end has no room for is dropped, with a word in the log. */
  send(name: BackEndMessage, payload: Uint8Array = new Uint8Array(0)): void {
    if (!this.#open) return;
    const flags = Flag.VERSION | (this.#acknowledged ? Flag.NEED_REPLY : 0);
    const { code } = backEndMessages[name];
    Header.encode({ request: code, flags, size: payload.length }, this.#out.data);
    this.#out.data.set(payload, Header.size);
    try {
      const length = Header.size + payload.length;
      const sent = this.#out.send(this.#socket, 0, length);
      if (sent === length) return;
      this.#fail(`The front-end does not read its requests: ${name} is lost`);
    } catch (error) {
      this.#fail(`Cannot send ${name} to the front-end: ${(error as Error).message}`);
    }
  }

  [Symbol.dispose](): void {
    this.#open = false;
    this.#watch[Symbol.dispose]();
    this.#socket.close();
  }

  #readable(): void {
    try {
      const wanted = this.#in.data.length - this.#have;
      const got = this.#in.receive(this.#socket, this.#have, wanted);
      for (const fd of this.#in.received) fd.close();
      if (got < 0) return;
      if (got === 0) return this.#stopReading();
      this.#have += got;
      if (this.#have === this.#in.data.length) this.#acknowledge();
    } catch (error) {
      this.#fail(`The front-end's request channel failed: ${(error as Error).message}`);
    }
  }

  #acknowledge(): void {
    this.#have = 0;
    const { request, flags, size } = Header.decode(this.#in.data);
    const expected = Flag.VERSION | Flag.REPLY;
    if (flags !== expected || size !== U64.size) {
      return this.#fail(`The front-end answered request ${request} with a malformed reply`);
    }
    const { value } = U64.decode(this.#in.data, Header.size);
    if (value !== 0n) this.#log.warn(`The front-end refused request ${request}`);
  }

  #fail(message: string): void {
    this.#log.warn(message);
    this.#stopReading();
  }

  /** Keeps the socket until the session replaces or ends it, but expects nothing of it any more. */
  #stopReading(): void {
    this.#open = false;
    this.#watch.modify(0);
  }
}
