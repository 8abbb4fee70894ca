/**
 * The front-end's end of a vhost-user socket without any manners: it sends whatever bytes and
 * descriptors it is told to, and says what came back. Everything here blocks, within limits.
 */
import { Header, U64 } from "../../core/payloads.ts";
import { Flag, type FrontEndMessage, frontEndMessages } from "../../core/protocol.ts";
import {
  bytes,
  connectUnix,
  EINTR,
  type Fd,
  libc,
  MessageBuffer,
  POLLFD,
  POLLOUT,
  SystemError,
} from "../../ffi/mod.ts";

/** How long an answer may take before it counts as missing, in milliseconds. */
export const ANSWER_LIMIT = 5_000;
/** How long silence is waited for where silence is right. */
const SILENCE = 30;

const POLLIN = 1;
const MAX_REPLY = 4096;

/** What became of a message that asked for an acknowledgement. */
export type Outcome = "ok" | "refused" | "closed" | "silent";

export interface Reply {
  readonly code: number;
  readonly flags: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

export interface SendOptions {
  readonly fds?: readonly (Fd | number)[];
  /** Header flags; version 1 alone by default. */
  readonly flags?: number;
  /** The size the header claims, when it is not the payload's. */
  readonly size?: number;
}

const empty = new Uint8Array(0);
const number = (fd: Fd | number) => (typeof fd === "number" ? fd : fd.number);
export const codeOf = (message: FrontEndMessage | number) =>
  typeof message === "number" ? message : frontEndMessages[message].code;

/** Waits for a descriptor. False when `milliseconds` have passed. */
export function waitFor(fd: number, events: number, milliseconds: number): boolean {
  const request = bytes(POLLFD.size);
  const view = new DataView(request.buffer);
  view.setInt32(POLLFD.fd, fd, true);
  view.setInt16(POLLFD.events, events, true);
  return libc.poll(request, 1, milliseconds) > 0;
}

export const readable = (fd: Fd, milliseconds = 0) => waitFor(fd.number, POLLIN, milliseconds);

export function sleep(milliseconds: number): void {
  libc.poll(null, 0, milliseconds);
}

/** The bytes of a message. */
export function frame(
  message: FrontEndMessage | number,
  payload: Uint8Array = empty,
  { flags = Flag.VERSION, size = payload.length }: SendOptions = {},
): Uint8Array<ArrayBuffer> {
  const data = bytes(Header.size + payload.length);
  Header.encode({ request: codeOf(message), flags, size }, data);
  data.set(payload, Header.size);
  return data;
}

export const u64 = (value: bigint | number) => U64.encode({ value: BigInt(value) });

export class Client implements Disposable {
  readonly socket: Fd;
  readonly #out = new MessageBuffer(64 * 1024);
  readonly #in = new MessageBuffer(MAX_REPLY);

  constructor(path: string) {
    this.socket = connectUnix(path);
  }

  /** Sends bytes, descriptors with the first of them. False when the other side is gone. */
  raw(data: Uint8Array, fds: readonly (Fd | number)[] = []): boolean {
    let passed = fds.map(number);
    for (let done = 0; done < data.length; ) {
      const part = data.subarray(done, done + this.#out.data.length);
      this.#out.data.set(part);
      const sent = this.#trySend(part.length, passed);
      if (sent < 0) return false;
      if (sent === 0 && !waitFor(this.socket.number, POLLOUT, ANSWER_LIMIT)) {
        throw new Error("The back-end does not read its messages");
      }
      if (sent > 0) passed = [];
      done += sent;
    }
    return true;
  }

  /** Sends without waiting for room. Returns the bytes taken, -1 when the other side is gone. */
  #trySend(length: number, fds: readonly number[]): number {
    try {
      return Math.max(0, this.#out.send(this.socket, 0, length, fds));
    } catch (error) {
      if (error instanceof SystemError && /EPIPE|ECONNRESET/.test(error.code)) return -1;
      throw error;
    }
  }

  send(message: FrontEndMessage | number, payload = empty as Uint8Array, options?: SendOptions) {
    return this.raw(frame(message, payload, options), options?.fds);
  }

  /** The next reply, or how it failed to come. Descriptors that come along are closed. */
  receive(limit = ANSWER_LIMIT): Reply | "closed" | "silent" {
    const header = this.#read(Header.size, limit);
    if (typeof header === "string") return header;
    const { request, flags, size } = Header.decode(header);
    const payload = size === 0 ? empty : this.#read(size, ANSWER_LIMIT);
    if (typeof payload === "string") throw new Error(`A reply was cut off: ${payload}`);
    return { code: request, flags, payload: payload.slice() };
  }

  /** Reads exactly `length` bytes. */
  #read(length: number, limit: number): Uint8Array | "closed" | "silent" {
    for (let have = 0; have < length; ) {
      if (!waitFor(this.socket.number, POLLIN, limit)) return "silent";
      const got = this.#tryReceive(have, length - have);
      if (got === 0) return "closed";
      if (got > 0) have += got;
    }
    return this.#in.data.subarray(0, length);
  }

  /** 0 at the end, however it came; -1 when nothing is there. */
  #tryReceive(at: number, length: number): number {
    try {
      const got = this.#in.receive(this.socket, at, length);
      for (const fd of this.#in.received) fd.close();
      return got;
    } catch (error) {
      if (error instanceof SystemError && error.errno !== EINTR) return 0;
      throw error;
    }
  }

  /** Sends a request that has a reply of its own and returns the reply's payload. */
  ask(message: FrontEndMessage, payload: Uint8Array = empty, options?: SendOptions) {
    this.send(message, payload, options);
    const reply = this.receive();
    if (typeof reply === "string") throw new Error(`${message}: ${reply}`);
    if (reply.flags !== (Flag.VERSION | Flag.REPLY) || reply.code !== codeOf(message)) {
      throw new Error(`${message} got reply ${reply.code} with flags ${reply.flags}`);
    }
    return reply.payload;
  }

  askU64(message: FrontEndMessage): bigint {
    return U64.decode(this.ask(message)).value;
  }

  /** Sends a message that asks for an acknowledgement. */
  ack(
    message: FrontEndMessage | number,
    payload: Uint8Array = empty,
    fds: readonly (Fd | number)[] = [],
  ): Outcome {
    if (!this.send(message, payload, { fds, flags: Flag.VERSION | Flag.NEED_REPLY })) {
      return "closed";
    }
    const reply = this.receive();
    if (typeof reply === "string") return reply;
    if (reply.code !== codeOf(message) || reply.flags !== (Flag.VERSION | Flag.REPLY)) {
      throw new Error(`Message ${message} got reply ${reply.code} with flags ${reply.flags}`);
    }
    return U64.decode(reply.payload).value === 0n ? "ok" : "refused";
  }

  /** True when nothing comes for a while. */
  silent(): boolean {
    return this.receive(SILENCE) === "silent";
  }

  /** True when the back-end closes the connection; replies that come before are skipped. */
  closed(): boolean {
    for (;;) {
      const reply = this.receive();
      if (typeof reply === "string") return reply === "closed";
    }
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}
