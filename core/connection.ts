/**
 * Message framing on one vhost-user socket (vhost-user: Message Specification).
 *
 * Descriptors arrive with the first byte of a header. A message owns what came with it: the handler
 * takes what it keeps, the rest is closed when the message is done with.
 */
import { EPOLLIN, type Fd, MessageBuffer } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import type { Loop, Watch } from "./loop.ts";
import { Header, payloadSizes, U64 } from "./payloads.ts";
import { Flag, MAX_PAYLOAD, type MessageRow } from "./protocol.ts";

/** Messages handled in a row before other sources of events get their turn. */
const MESSAGES_PER_ROUND = 64;

/** One request of the front-end. */
export class Message {
  readonly code: number;
  /** Undefined for a code that no row describes. */
  readonly row: MessageRow | undefined;
  /** The header asks for an acknowledgement. */
  readonly needReply: boolean;
  readonly payload: Uint8Array;
  readonly fds: (Fd | null)[];

  constructor(
    code: number,
    row: MessageRow | undefined,
    needReply: boolean,
    payload: Uint8Array,
    fds: Fd[],
  ) {
    this.code = code;
    this.row = row;
    this.needReply = needReply;
    this.payload = payload;
    this.fds = fds;
  }

  get name(): string {
    return this.row?.name ?? `message ${this.code}`;
  }

  /** Gives descriptor 0 to `receiver`, which owns it unless it throws. */
  handOver(receiver: (fd: Fd) => void): void {
    const fd = this.fds[0];
    if (fd == null) throw new ProtocolError(`${this.name} carries no descriptor`);
    receiver(fd);
    this.fds[0] = null;
  }

  /** Closes the descriptors that nobody took. */
  release(): void {
    for (const fd of this.fds.splice(0)) fd?.close();
  }
}

export interface ConnectionEvents {
  /** Handles a message to its end. The connection pauses itself for nobody: see `pause`. */
  message(message: Message): void;
  /** The connection is over: end of file, an error of the socket, or a `ProtocolError`. */
  ended(reason: Error | null): void;
}

export class Connection {
  readonly #socket: Fd;
  readonly #rows: ReadonlyMap<number, MessageRow>;
  readonly #events: ConnectionEvents;
  readonly #watch: Watch;
  readonly #in = new MessageBuffer(Header.size + MAX_PAYLOAD);
  readonly #out = new MessageBuffer(Header.size + MAX_PAYLOAD);
  #have = 0;
  #need: number = Header.size;
  #fds: Fd[] = [];
  #paused = false;
  #closed = false;
  /** Requests of ours that the front-end has not answered yet. */
  #asked: { readonly code: number; answered(value: bigint): void }[] = [];

  /**
   * Takes `socket`, which must be non-blocking or is only read when readable. `rows` describes what
   * comes in, by code.
   */
  constructor(
    socket: Fd,
    loop: Loop,
    rows: ReadonlyMap<number, MessageRow>,
    events: ConnectionEvents,
  ) {
    this.#rows = rows;
    this.#socket = socket;
    this.#events = events;
    this.#watch = loop.watch(socket.number, EPOLLIN, () => this.#readable());
  }

  /** Stops reading: the message being handled is answered later. */
  pause(): void {
    this.#paused = true;
    this.#watch.modify(0);
  }

  resume(): void {
    if (this.#closed || !this.#paused) return;
    this.#paused = false;
    this.#watch.modify(EPOLLIN);
  }

  /** Answers a request. Ends the connection when the front-end does not read its replies. */
  reply(code: number, payload: Uint8Array, fds: readonly number[] = []): void {
    this.#send(code, Flag.VERSION | Flag.REPLY, payload, fds);
  }

  /**
   * Sends a request of our own, which only a draft of the protocol knows here. `answered` gets the
   * u64 that it is acknowledged with; without it no acknowledgement is asked for.
   */
  request(code: number, payload: Uint8Array, answered: ((value: bigint) => void) | null): void {
    if (answered !== null) this.#asked.push({ code, answered });
    this.#send(code, Flag.VERSION | (answered === null ? 0 : Flag.NEED_REPLY), payload);
  }

  #send(code: number, flags: number, payload: Uint8Array, fds: readonly number[] = []): void {
    if (this.#closed) return;
    Header.encode({ request: code, flags, size: payload.length }, this.#out.data);
    this.#out.data.set(payload, Header.size);
    const length = Header.size + payload.length;
    let sent: number;
    try {
      sent = this.#out.send(this.#socket, 0, length, fds);
    } catch (error) {
      fatal(`Cannot reply to message ${code}: ${(error as Error).message}`);
    }
    if (sent !== length) fatal(`Cannot reply to message ${code}: the front-end does not read`);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch[Symbol.dispose]();
    this.#socket.close();
    for (const fd of this.#fds.splice(0)) fd.close();
  }

  #readable(): void {
    try {
      for (let i = 0; i < MESSAGES_PER_ROUND && !this.#closed && !this.#paused; ) {
        const state = this.#receive();
        if (state === "blocked") return;
        if (state === "end") return this.#events.ended(this.#endOfFile());
        if (state === "message") {
          this.#dispatch();
          i++;
        }
      }
    } catch (error) {
      this.#events.ended(error as Error);
    }
  }

  /** Reads once. The header decides how much is needed in all. */
  #receive(): "blocked" | "end" | "more" | "message" {
    if (this.#have < this.#need) {
      const got = this.#in.receive(this.#socket, this.#have, this.#need - this.#have);
      if (got < 0) return "blocked";
      this.#collectFds();
      if (got === 0) return "end";
      this.#have += got;
      if (this.#have < this.#need) return "more";
    }
    if (this.#need === Header.size) this.#need += this.#checkHeader();
    return this.#have === this.#need ? "message" : "more";
  }

  #collectFds(): void {
    if (this.#in.received.length === 0 && !this.#in.truncated) return;
    const late = this.#have > 0;
    this.#fds.push(...this.#in.received);
    if (this.#in.truncated) fatal("a message carries more descriptors than can be received");
    if (late) fatal("descriptors came after the first byte of a message");
  }

  /** Returns the payload's size. */
  #checkHeader(): number {
    const { request, flags, size } = Header.decode(this.#in.data);
    if ((flags & Flag.VERSION_MASK) !== Flag.VERSION) {
      fatal(`message ${request} has protocol version ${flags & Flag.VERSION_MASK}, not 1`);
    }
    if ((flags & Flag.REPLY) !== 0) {
      if (this.#asked[0]?.code === request && size === U64.size) return size;
      fatal(`message ${request} is marked as a reply`);
    }
    const row = this.#rows.get(request);
    const { min, max } =
      row === undefined ? { min: 0, max: MAX_PAYLOAD } : payloadSizes[row.payload];
    if (size < min || size > max) {
      const expected = min === max ? `${min}` : `${min} to ${max}`;
      fatal(`${row?.name ?? `message ${request}`} has a payload of ${size} bytes, not ${expected}`);
    }
    return size;
  }

  #dispatch(): void {
    const { request, flags } = Header.decode(this.#in.data);
    const payload = this.#in.data.slice(Header.size, this.#need);
    const fds = this.#fds;
    this.#fds = [];
    this.#have = 0;
    this.#need = Header.size;
    if ((flags & Flag.REPLY) !== 0) {
      for (const fd of fds) fd.close();
      return this.#asked.shift()?.answered(U64.decode(payload).value);
    }
    const needReply = (flags & Flag.NEED_REPLY) !== 0;
    this.#events.message(new Message(request, this.#rows.get(request), needReply, payload, fds));
  }

  #endOfFile(): Error | null {
    if (this.#have === 0) return null;
    return new ProtocolError(`the connection ended within a message, after ${this.#have} bytes`, {
      fatal: true,
    });
  }
}

function fatal(message: string): never {
  throw new ProtocolError(message, { fatal: true });
}
