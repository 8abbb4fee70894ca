/**
 * The front-end's end of a vhost-user socket: messages out, replies in, everything checked
 * (vhost-user: Message Specification). Calls block, within a time limit.
 */
import { Header, payloadSizes, U64 } from "../core/payloads.ts";
import { Flag, type MessageRow } from "../core/protocol.ts";
import { connectUnix, type Fd, MessageBuffer, SystemError } from "../ffi/mod.ts";
import { BackEndError, malformed } from "./errors.ts";
import { DEFAULT_TIMEOUT, PollSet, READABLE, sleep, WRITABLE, waitFor } from "./wait.ts";

export interface ConnectionOptions {
  /** For connecting and for each answer, in milliseconds. */
  readonly timeout?: number;
}

/** The back-end's answer. The caller owns `fds`. */
export interface Reply {
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly fds: readonly Fd[];
}

/** A second socket that must be served while an answer is waited for. */
export interface SideChannel {
  readonly fd: Fd;
  /** Reads what is there without waiting. */
  serve(): void;
}

/** Larger than any message; raw input is sent in pieces of this size. */
const BUFFER_SIZE = 64 * 1024;
/** Pause between two attempts to connect, in milliseconds. */
const RETRY_INTERVAL = 5;

const nothing = new Uint8Array(0);

export class Connection implements Disposable {
  readonly socket: Fd;
  readonly timeout: number;
  /** REPLY_ACK is negotiated: `command` waits for an acknowledgement. */
  acknowledged = false;
  /** Called before each message; what it throws keeps the message from being sent. */
  beforeSend: ((row: MessageRow) => void) | null = null;
  side: SideChannel | null = null;
  readonly #out = new MessageBuffer(BUFFER_SIZE);
  readonly #in = new MessageBuffer(BUFFER_SIZE);
  readonly #poll = new PollSet(2);
  /** Posted messages whose replies are not read yet. */
  readonly #posted: { readonly row: MessageRow; readonly take: (reply: Reply) => void }[] = [];

  /** Takes `socket`. */
  constructor(socket: Fd, { timeout = DEFAULT_TIMEOUT }: ConnectionOptions = {}) {
    this.socket = socket;
    this.timeout = timeout;
  }

  /** Connects to a path; tries again until somebody listens there or the time is up. */
  static connect(path: string, options: ConnectionOptions = {}): Connection {
    const end = performance.now() + (options.timeout ?? DEFAULT_TIMEOUT);
    for (;;) {
      try {
        return new Connection(connectUnix(path), options);
      } catch (error) {
        const absent =
          error instanceof SystemError && ["ENOENT", "ECONNREFUSED", "EAGAIN"].includes(error.code);
        if (!absent || performance.now() > end) throw error;
        sleep(RETRY_INTERVAL);
      }
    }
  }

  /** Sends a message as it is, without a look at its row's rules. */
  send(
    row: MessageRow,
    payload: Uint8Array = nothing,
    fds: readonly Fd[] = [],
    flags: number = Flag.VERSION,
  ): void {
    this.settle();
    this.#transmit(row, payload, fds, flags);
  }

  /**
   * Sends a message that has a reply of its own and goes on, also from within the wait for another
   * reply. `take` gets the reply before the next message is sent, or in `settle`.
   */
  post(row: MessageRow, payload: Uint8Array, take: (reply: Reply) => void): void {
    this.#posted.push({ row, take });
    this.#transmit(row, payload, [], Flag.VERSION);
  }

  /** Reads the replies to posted messages. */
  settle(): void {
    for (let next = this.#posted.shift(); next !== undefined; next = this.#posted.shift()) {
      next.take(this.reply(next.row));
    }
  }

  #transmit(row: MessageRow, payload: Uint8Array, fds: readonly Fd[], flags: number): void {
    this.beforeSend?.(row);
    const message = new Uint8Array(Header.size + payload.length);
    Header.encode({ request: row.code, flags, size: payload.length }, message);
    message.set(payload, Header.size);
    this.sendRaw(message, fds);
  }

  /** Sends a message that has a reply of its own, and returns that. */
  request(row: MessageRow, payload?: Uint8Array, fds?: readonly Fd[]): Reply {
    this.send(row, payload, fds);
    return this.reply(row);
  }

  /**
   * Sends a message without a reply of its own. Where acknowledgements are negotiated it waits for
   * one, and throws `BackEndError` "refused" when that is not 0.
   */
  command(row: MessageRow, payload?: Uint8Array, fds?: readonly Fd[]): void {
    if (!this.acknowledged) return this.send(row, payload, fds);
    const value = this.acknowledge(row, payload, fds);
    if (value === 0n) return;
    throw new BackEndError("refused", `The back-end refused ${row.name}: it answered ${value}`);
  }

  /** Sends a message and returns the value that it is acknowledged with. */
  acknowledge(row: MessageRow, payload?: Uint8Array, fds?: readonly Fd[]): bigint {
    this.send(row, payload, fds, Flag.VERSION | Flag.NEED_REPLY);
    return U64.decode(this.reply({ ...row, reply: "ack" }).payload).value;
  }

  /** Reads the answer to `row`; every field of its header must be right. */
  reply(row: MessageRow): Reply {
    const fds: Fd[] = [];
    try {
      const header = this.#receive(Header.size, row.name, fds);
      const { request, flags, size } = Header.decode(header);
      if (request !== row.code) {
        malformed(`${row.name} (${row.code}) is answered by message ${request}`);
      }
      if (flags !== (Flag.VERSION | Flag.REPLY)) {
        malformed(`The reply to ${row.name} has flags 0x${flags.toString(16)}, not 0x5`);
      }
      checkSize(row, size);
      const allowed = row.reply === "ack" ? 0 : (row.reply.fds ?? 0);
      if (fds.length > allowed) {
        malformed(`The reply to ${row.name} carries ${fds.length} descriptors, not ${allowed}`);
      }
      const payload = this.#receive(size, row.name, fds);
      return { payload, fds };
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /** Sends any bytes, descriptors with the first of them. */
  sendRaw(data: Uint8Array, fds: readonly Fd[] = []): void {
    let passed = fds.map((fd) => fd.number);
    for (let done = 0; done < data.length; ) {
      const part = data.subarray(done, done + BUFFER_SIZE);
      this.#out.data.set(part);
      const sent = this.#trySend(part.length, passed);
      if (sent > 0) {
        passed = [];
        done += sent;
      } else if (!waitFor(this.socket.number, WRITABLE, this.timeout)) {
        throw new BackEndError("silent", "The back-end does not read its messages");
      }
    }
  }

  #trySend(length: number, fds: readonly number[]): number {
    try {
      return this.#out.send(this.socket, 0, length, fds);
    } catch (error) {
      throw closedOr(error, "sending");
    }
  }

  /** Reads any bytes that are there. Null when nothing comes in time; empty at the end. */
  receiveRaw(length: number, milliseconds: number = this.timeout): Uint8Array<ArrayBuffer> | null {
    const end = performance.now() + milliseconds;
    for (;;) {
      if (!this.#wait(Math.max(0, end - performance.now()))) return null;
      const got = this.#tryReceive(0, length);
      for (const fd of this.#in.received) fd.close();
      if (got >= 0) return this.#in.data.slice(0, got);
    }
  }

  /** Tells whether the back-end ends the connection; what it sends before is skipped. */
  endsWithin(milliseconds: number = this.timeout): boolean {
    const end = performance.now() + milliseconds;
    for (;;) {
      const got = this.receiveRaw(BUFFER_SIZE, Math.max(0, end - performance.now()));
      if (got === null) return false;
      if (got.length === 0) return true;
    }
  }

  close(): void {
    this.socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Reads exactly `length` bytes of the answer to `name`. */
  #receive(length: number, name: string, fds: Fd[]): Uint8Array<ArrayBuffer> {
    const end = performance.now() + this.timeout;
    for (let have = 0; have < length; ) {
      if (!this.#wait(Math.max(0, end - performance.now()))) {
        throw new BackEndError("silent", `No answer to ${name} within ${this.timeout} ms`);
      }
      const got = this.#tryReceive(have, length - have);
      if (got === 0) {
        throw new BackEndError("closed", `The back-end ended the connection at ${name}`);
      }
      if (got < 0) continue;
      fds.push(...this.#in.received);
      have += got;
    }
    return this.#in.data.slice(0, length);
  }

  /** The count, 0 at the end however it came, -1 when nothing is there. */
  #tryReceive(at: number, length: number): number {
    try {
      return this.#in.receive(this.socket, at, length);
    } catch (error) {
      if (closedOr(error, "receiving") instanceof BackEndError) return 0;
      throw error;
    }
  }

  /** Waits for the socket, and serves the side channel meanwhile. */
  #wait(milliseconds: number): boolean {
    const end = performance.now() + milliseconds;
    for (let left = milliseconds; ; left = Math.max(0, end - performance.now())) {
      this.#poll.clear();
      this.#poll.add(this.socket.number, READABLE);
      const side = this.side;
      if (side !== null && !side.fd.closed) this.#poll.add(side.fd.number, READABLE);
      if (this.#poll.wait(left) === 0) return false;
      if (this.#poll.ready(0)) return true;
      side?.serve();
    }
  }
}

function checkSize(row: MessageRow, size: number): void {
  const { min, max } = payloadSizes[row.reply === "ack" ? "u64" : row.reply.payload];
  if (size >= min && size <= max) return;
  // How a back-end says that a range of its config space cannot be read.
  if (size === 0 && row.payload === "config") return;
  const expected = min === max ? `${min}` : `${min} to ${max}`;
  malformed(`The reply to ${row.name} has ${size} bytes, not ${expected}`);
}

function closedOr(error: unknown, doing: string): unknown {
  if (!(error instanceof SystemError) || !/^(EPIPE|ECONNRESET)$/.test(error.code)) return error;
  return new BackEndError("closed", `The back-end ended the connection: ${doing} failed`);
}
