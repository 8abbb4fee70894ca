/**
 * Requests of the back-end, on the socket pair of SET_BACKEND_REQ_FD
 * (vhost-user: Back-end message types).
 */
import { Header, payloadSizes, U64 } from "../core/payloads.ts";
import { type BackEndMessage, backEndMessages, Flag, type MessageRow } from "../core/protocol.ts";
import { type Fd, MessageBuffer, SystemError, socketPair } from "../ffi/mod.ts";
import type { SideChannel } from "./connection.ts";
import { BackEndError, malformed } from "./errors.ts";
import { DEFAULT_TIMEOUT, READABLE, waitFor } from "./wait.ts";

/** One request. Whoever takes it owns `fds`. */
export interface BackEndRequest {
  readonly row: MessageRow;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly fds: readonly Fd[];
}

/** What a request is answered with; a descriptor that goes along stays whose it is. */
export interface BackEndAnswer {
  readonly value: bigint;
  readonly fd?: Fd;
}

export interface BackEndRequestsOptions {
  /** The value to acknowledge a request with; 0 by default. Null leaves it unanswered. */
  readonly answer?: (request: BackEndRequest) => bigint | BackEndAnswer | null;
}

const rowByCode: ReadonlyMap<number, MessageRow> = new Map(
  Object.values(backEndMessages).map((row) => [row.code, row]),
);

export class BackEndRequests implements SideChannel, Disposable {
  readonly fd: Fd;
  /** The back-end's end, to be passed; closed by `passed`. */
  readonly remote: Fd;
  readonly #answer: NonNullable<BackEndRequestsOptions["answer"]>;
  readonly #queue: BackEndRequest[] = [];
  readonly #in = new MessageBuffer(4096);
  readonly #out = new MessageBuffer(Header.size + U64.size);
  #have = 0;
  #fds: Fd[] = [];

  constructor({ answer = () => 0n }: BackEndRequestsOptions = {}) {
    [this.fd, this.remote] = socketPair();
    this.#answer = answer;
  }

  /** The back-end has its end now. */
  passed(): void {
    this.remote.close();
  }

  /** The next request, or null when none comes in time. */
  receive(milliseconds: number = DEFAULT_TIMEOUT): BackEndRequest | null {
    const end = performance.now() + milliseconds;
    for (;;) {
      this.serve();
      const request = this.#queue.shift();
      if (request !== undefined) return request;
      if (this.fd.closed) {
        throw new BackEndError("closed", "The back-end closed its request channel");
      }
      const left = end - performance.now();
      if (left <= 0 || !waitFor(this.fd.number, READABLE, left)) return null;
    }
  }

  /** Waits for a request of one kind; others that come before are dropped. */
  expect(name: BackEndMessage, milliseconds: number = DEFAULT_TIMEOUT): BackEndRequest {
    const end = performance.now() + milliseconds;
    for (;;) {
      const request = this.receive(Math.max(0, end - performance.now()));
      if (request === null) {
        throw new BackEndError("silent", `The back-end sent no ${name} within ${milliseconds} ms`);
      }
      if (request.row.name === name) return request;
      for (const fd of request.fds) fd.close();
    }
  }

  /** Takes what is there. At the end of the channel `fd` is closed, which is no error by itself. */
  serve(): void {
    while (!this.fd.closed && waitFor(this.fd.number, READABLE, 0)) {
      const got = this.#tryReceive(this.#need() - this.#have);
      if (got < 0) return;
      this.#fds.push(...this.#in.received);
      if (got === 0) return this.fd.close();
      this.#have += got;
      if (this.#have >= Header.size && this.#have === this.#need()) this.#take();
    }
  }

  #tryReceive(length: number): number {
    try {
      return this.#in.receive(this.fd, this.#have, length);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ECONNRESET") return 0;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.fd.close();
    this.remote.close();
    for (const fd of [...this.#fds, ...this.#queue.flatMap((request) => request.fds)]) fd.close();
  }

  /** Bytes of the message being read: of its header at first, of all of it then. */
  #need(): number {
    if (this.#have < Header.size) return Header.size;
    const { request, flags, size } = Header.decode(this.#in.data);
    const row = rowByCode.get(request);
    if (row === undefined) malformed(`There is no back-end request ${request}`);
    const version = flags & ~Flag.NEED_REPLY;
    if (version !== Flag.VERSION) malformed(`${row.name} has flags 0x${flags.toString(16)}`);
    const { min, max } = payloadSizes[row.payload];
    if (size < min || size > max) malformed(`${row.name} has a payload of ${size} bytes`);
    return Header.size + size;
  }

  #take(): void {
    const { request: code, flags } = Header.decode(this.#in.data);
    const row = rowByCode.get(code)!;
    const request = { row, payload: this.#in.data.slice(Header.size, this.#have), fds: this.#fds };
    this.#have = 0;
    this.#fds = [];
    this.#queue.push(request);
    const answer = this.#answer(request);
    const wanted = row.reply !== "ack" || (flags & Flag.NEED_REPLY) !== 0;
    if (!wanted || answer === null) return;
    const { value, fd }: BackEndAnswer = typeof answer === "bigint" ? { value: answer } : answer;
    const reply = { request: code, flags: Flag.VERSION | Flag.REPLY, size: U64.size };
    Header.encode(reply, this.#out.data);
    U64.encode({ value }, this.#out.data, Header.size);
    this.#out.send(this.fd, 0, Header.size + U64.size, fd === undefined ? [] : [fd.number]);
  }
}
