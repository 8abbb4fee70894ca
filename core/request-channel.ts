/**
 * Requests of the back-end to the front-end, on the socket of SET_BACKEND_REQ_FD
 * (vhost-user: Back-end message types).
 *
 * Nothing here waits: answers arrive as events, because the front-end may itself be waiting for us
 * on the main socket. A front-end that does not read finds a bounded queue, and one that does not
 * answer is not asked again.
 */
import { EPOLLIN, EPOLLOUT, type Fd, MessageBuffer } from "../ffi/mod.ts";
import type { Log } from "./log.ts";
import type { Loop, Watch } from "./loop.ts";
import { Header, U64, VringState } from "./payloads.ts";
import { type BackEndMessage, backEndMessages, Flag, type MessageRow } from "./protocol.ts";

/** How long the front-end may take to answer, in milliseconds. */
const ANSWER_LIMIT = 5_000;
/** Requests that may wait to be sent, and as many that may wait for their answers. */
const MAX_WAITING = 64;
/** Descriptors of one request (vhost-user: BACKEND_SEND_FD). */
const MAX_FDS = 8;
const MAX_REQUEST = 256;

const nothing = new Uint8Array(0);
const none: readonly number[] = [];

/** What a request is answered with. Whoever gets it owns `fd`. */
export interface Answer {
  readonly value: bigint;
  readonly fd: Fd | null;
}

export interface RequestChannelOptions {
  /** REPLY_ACK is negotiated: requests ask for an acknowledgement. */
  readonly acknowledged: boolean;
  /** BACKEND_SEND_FD is negotiated: requests may carry descriptors. */
  readonly descriptors: boolean;
  /** How long the front-end may take to answer, in milliseconds; 5 s by default. */
  readonly answerLimit?: number;
}

/** Who is told of an answer, or of why there is none. */
export interface Settle {
  resolve(answer: Answer): void;
  reject(reason: Error): void;
}

interface Request {
  readonly row: MessageRow;
  data: Uint8Array;
  /** Our own copies of what is still to be passed. */
  fds: Fd[];
  answered: boolean;
  due: number;
  /** Null when nobody is interested, or any more. */
  settle: Settle | null;
}

export class RequestChannel implements Disposable {
  readonly #socket: Fd;
  readonly #loop: Loop;
  readonly #log: Log;
  readonly #watch: Watch;
  readonly #descriptors: boolean;
  readonly #answerLimit: number;
  readonly #out = new MessageBuffer(MAX_REQUEST);
  readonly #notification = new MessageBuffer(Header.size + VringState.size);
  readonly #in = new MessageBuffer(Header.size + U64.size);
  #acknowledged: boolean;
  #have = 0;
  #received: Fd[] = [];
  #open = true;
  /** The socket was full: everything waits until it has room. */
  #blocked = false;
  #queue: Request[] = [];
  /** In the order in which they were sent, which is that of their answers. */
  #unanswered: Request[] = [];
  /** Notifications that wait for room, each once: `code * 2^16 + vring`. */
  readonly #notifications = new Set<number>();
  #timer: Disposable | null = null;
  /** The front-end has left a request unanswered for too long. */
  #muted = false;
  #lossTold = false;

  /** Takes `socket` unless it throws. */
  constructor(
    socket: Fd,
    loop: Loop,
    log: Log,
    { acknowledged, descriptors, answerLimit = ANSWER_LIMIT }: RequestChannelOptions,
  ) {
    this.#socket = socket;
    this.#loop = loop;
    this.#log = log;
    this.#acknowledged = acknowledged;
    this.#descriptors = descriptors;
    this.#answerLimit = answerLimit;
    this.#watch = loop.watch(socket.number, EPOLLIN, (events) => this.#ready(events));
  }

  /**
   * Sends a request whose outcome matters to nobody. It is left out when an equal one still waits to
   * be sent, and dropped, with a word in the log, when too many do.
   */
  send(name: BackEndMessage, payload: Uint8Array = nothing): void {
    if (!this.#open) return;
    const request = this.#make(name, payload, []);
    if (this.#queue.some((other) => other.settle === null && isEqual(other.data, request.data))) {
      return;
    }
    if (this.#queue.length >= MAX_WAITING) return this.#tellLoss(name);
    this.#submit(request);
  }

  /**
   * Sends a request and gets the value it is acknowledged with: 0 for success, and 0 without
   * REPLY_ACK. `fds` stay the caller's. Rejects when there is no answer.
   */
  async request(name: BackEndMessage, payload?: Uint8Array, fds?: readonly Fd[]): Promise<bigint> {
    const { value, fd } = await this.ask(name, payload, fds);
    fd?.close();
    return value;
  }

  /** Like `request`, for an answer that may have a descriptor. */
  ask(
    name: BackEndMessage,
    payload: Uint8Array = nothing,
    fds: readonly Fd[] = [],
  ): Promise<Answer> {
    return new Promise((resolve, reject) => this.query(name, { resolve, reject }, payload, fds));
  }

  /**
   * Like `ask`, for those who cannot wait for a promise's turn: `settle` is called within the event.
   * Throws when the request cannot be sent.
   */
  query(
    name: BackEndMessage,
    settle: Settle,
    payload: Uint8Array = nothing,
    fds: readonly Fd[] = [],
  ): void {
    const problem = this.#problemWith(name, fds.length);
    if (problem !== null) throw new Error(`Cannot send ${name} to the front-end: ${problem}`);
    const request = this.#make(name, payload, fds);
    request.settle = settle;
    this.#submit(request);
  }

  #problemWith(name: BackEndMessage, fds: number): string | null {
    if (!this.#open) return "its request channel is closed";
    if (fds > MAX_FDS) return `${fds} descriptors are more than ${MAX_FDS}`;
    if (fds > 0 && !this.#descriptors) return "BACKEND_SEND_FD is not negotiated";
    if (this.#queue.length >= MAX_WAITING) return "it does not read its requests";
    const tooMany = this.#unanswered.length >= MAX_WAITING;
    const { reply } = backEndMessages[name] as MessageRow;
    if (reply === "ack" ? this.#acknowledged && tooMany : this.#muted || tooMany) {
      return "it does not answer its requests";
    }
    return null;
  }

  /**
   * Notifies the front-end of a vring in band. Never waits, asks for no acknowledgement, and sends
   * one message for all that happens while the front-end does not read.
   */
  notify(name: "VRING_CALL" | "VRING_ERR", vring: number): void {
    if (!this.#open) return;
    const key = backEndMessages[name].code * 0x10000 + vring;
    if (this.#blocked) this.#notifications.add(key);
    else if (!this.#sendNotification(key)) {
      this.#notifications.add(key);
      this.#waitForRoom();
    }
  }

  [Symbol.dispose](): void {
    this.#end(new Error("The front-end's request channel is closed"));
    this.#watch[Symbol.dispose]();
    this.#socket.close();
  }

  #make(name: BackEndMessage, payload: Uint8Array, fds: readonly Fd[]): Request {
    const row: MessageRow = backEndMessages[name];
    const own = row.reply !== "ack";
    const wanted = this.#acknowledged && this.#unanswered.length < MAX_WAITING;
    const flags = Flag.VERSION | (wanted ? Flag.NEED_REPLY : 0);
    const data = new Uint8Array(Header.size + payload.length);
    Header.encode({ request: row.code, flags, size: payload.length }, data);
    data.set(payload, Header.size);
    return {
      row,
      data,
      fds: fds.map((fd) => fd.duplicate()),
      answered: own || wanted,
      due: 0,
      settle: null,
    };
  }

  #submit(request: Request): void {
    this.#queue.push(request);
    if (!this.#blocked) this.#flush();
  }

  #ready(events: number): void {
    if (this.#blocked && (events & ~EPOLLIN) !== 0) this.#flush();
    if (this.#open && (events & ~EPOLLOUT) !== 0) this.#readable();
  }

  /** Sends what waits, as far as there is room. */
  #flush(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (!this.#sendRequest(next)) return this.#waitForRoom();
      this.#queue.shift();
      this.#sent(next);
    }
    for (const key of this.#notifications) {
      if (!this.#sendNotification(key)) return this.#waitForRoom();
      this.#notifications.delete(key);
    }
    if (!this.#blocked || !this.#open) return;
    this.#blocked = false;
    this.#watch.modify(EPOLLIN);
  }

  #waitForRoom(): void {
    if (this.#blocked || !this.#open) return;
    this.#blocked = true;
    this.#watch.modify(EPOLLIN | EPOLLOUT);
  }

  /** Returns whether all of it is sent. */
  #sendRequest(request: Request): boolean {
    const { data, fds, row } = request;
    this.#out.data.set(data);
    const numbers = fds.map((fd) => fd.number);
    const sent = this.#transmit(this.#out, row.name, data.length, numbers);
    if (sent <= 0) return false;
    for (const fd of fds.splice(0)) fd.close();
    request.data = data.subarray(sent);
    return sent === data.length;
  }

  #sendNotification(key: number): boolean {
    const { view } = this.#notification;
    view.setUint32(0, key >>> 16, true);
    view.setUint32(4, Flag.VERSION, true);
    view.setUint32(8, VringState.size, true);
    view.setUint32(12, key & 0xffff, true);
    const length = Header.size + VringState.size;
    // So small a message is sent whole or not at all.
    return this.#transmit(this.#notification, "a notification", length, none) === length;
  }

  /** Returns the bytes taken, -1 when there is no room or nobody any more. */
  #transmit(from: MessageBuffer, what: string, length: number, fds: readonly number[]): number {
    if (!this.#open) return -1;
    try {
      return from.send(this.#socket, 0, length, fds);
    } catch (error) {
      this.#fail(`Cannot send ${what} to the front-end: ${(error as Error).message}`);
      return -1;
    }
  }

  #sent(request: Request): void {
    if (!request.answered) return request.settle?.resolve({ value: 0n, fd: null });
    request.due = performance.now() + this.#answerLimit;
    this.#unanswered.push(request);
    this.#timer ??= this.#loop.after(this.#answerLimit, () => this.#checkDue());
  }

  #checkDue(): void {
    this.#timer = null;
    const first = this.#unanswered[0];
    if (first === undefined || this.#muted) return;
    const left = first.due - performance.now();
    if (left > 0) {
      this.#timer = this.#loop.after(left, () => this.#checkDue());
      return;
    }
    // Front-ends that never acknowledge exist. Late answers are still told apart from wrong ones.
    this.#muted = true;
    this.#acknowledged = false;
    const reason = `The front-end did not answer ${first.row.name} within ${this.#answerLimit} ms`;
    this.#log.warn(`${reason}: it is not asked for answers any more`);
    for (const request of this.#unanswered) {
      request.settle?.reject(new Error(reason));
      request.settle = null;
    }
    for (const request of this.#queue) stopAsking(request);
    this.#loop.visitSoon();
  }

  #readable(): void {
    try {
      const wanted = this.#in.data.length - this.#have;
      const got = this.#in.receive(this.#socket, this.#have, wanted);
      this.#received.push(...this.#in.received);
      if (got < 0) return;
      if (got === 0) return this.#end(new Error("The front-end closed its request channel"));
      this.#have += got;
      if (this.#have === this.#in.data.length) this.#take();
    } catch (error) {
      this.#fail(`The front-end's request channel failed: ${(error as Error).message}`);
    }
  }

  #take(): void {
    this.#have = 0;
    const fds = this.#received.splice(0);
    const { request: code, flags, size } = Header.decode(this.#in.data);
    const request = this.#unanswered.shift();
    const malformed = flags !== (Flag.VERSION | Flag.REPLY) || size !== U64.size;
    if (malformed || request?.row.code !== code) {
      for (const fd of fds) fd.close();
      if (request !== undefined) this.#unanswered.unshift(request);
      return this.#fail(`The front-end sent a malformed reply, to request ${code}`);
    }
    const { value } = U64.decode(this.#in.data, Header.size);
    const { settle, row } = request;
    const unheard = settle === null && row.reply === "ack" && !this.#muted;
    if (value !== 0n && unheard) this.#log.warn(`The front-end refused ${row.name}`);
    const fd = settle === null ? null : (fds.shift() ?? null);
    for (const other of fds) other.close();
    if (settle === null) return;
    settle.resolve({ value, fd });
    this.#loop.visitSoon();
  }

  #tellLoss(name: string): void {
    if (this.#lossTold) return;
    this.#lossTold = true;
    this.#log.warn(`The front-end does not read its requests: ${name} is lost`);
  }

  #fail(message: string): void {
    if (this.#open) this.#log.warn(message);
    this.#end(new Error(message));
  }

  /** Keeps the socket until the session replaces or ends it, but expects nothing of it any more. */
  #end(reason: Error): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch.modify(0);
    this.#timer?.[Symbol.dispose]();
    for (const fd of this.#received.splice(0)) fd.close();
    for (const { fds, settle } of [...this.#unanswered.splice(0), ...this.#queue.splice(0)]) {
      for (const fd of fds) fd.close();
      settle?.reject(reason);
    }
    this.#notifications.clear();
  }
}

/** Takes NEED_REPLY off a request of which nothing is sent yet. */
function stopAsking(request: Request): void {
  const { row, data } = request;
  if (row.reply !== "ack" || data.byteOffset > 0) return;
  new DataView(data.buffer).setUint32(Header.offset.flags, Flag.VERSION, true);
  request.answered = false;
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
