/**
 * Many messages out, then their answers in: the front-end's socket as a fuzzer needs it. What a
 * back-end must never do is checked here for every byte that it sends.
 */
import { Header, payloadSizes, U64 } from "../../core/payloads.ts";
import { Flag, frontEndMessages, type MessageRow, ProtocolFeature } from "../../core/protocol.ts";
import { connectUnix, type Fd, MessageBuffer, POLLOUT, SystemError } from "../../ffi/mod.ts";
import { sleep, waitFor } from "../bad-input/client.ts";
import { Finding } from "./finding.ts";

/** Longer than any limit that a back-end sets to a device or to a front-end. */
export const ANSWER_LIMIT = 15_000;
const POLLIN = 1;
const BUFFER = 128 * 1024;

/** A descriptor to pass, and what a trace calls it. */
export interface Passed {
  readonly kind: string;
  readonly fd: Fd;
}

/** A message to send. */
export interface Draft {
  readonly name: string;
  readonly code: number;
  /** Undefined for a code that is in no row. */
  readonly row: MessageRow | undefined;
  readonly flags: number;
  /** What the header claims. */
  readonly size: number;
  readonly payload: Uint8Array;
  readonly fds: readonly Passed[];
  /** Where the message is cut into pieces that are sent one by one. */
  readonly cuts?: readonly number[];
  /** The piece that carries the descriptors; the first by default. */
  readonly carrier?: number;
  /** Send only this many bytes, and hang up. */
  readonly truncate?: number;
}

/**
 * What became of a message:
 * - `ack`, `nack`: it was acknowledged with 0, or with something else.
 * - `reply`, `refusal`: the reply that its row always has, or the one that says no.
 * - `silent`: it asked for nothing, got nothing, and the connection goes on.
 * - `closed`: the back-end ended the connection because of it.
 * - `unseen`: an earlier one ended the connection.
 * - `cut`: we ended the connection within it.
 */
export type Outcome = "ack" | "nack" | "reply" | "refusal" | "silent" | "closed" | "unseen" | "cut";

export const accepted = (outcome: Outcome): boolean =>
  outcome === "ack" || outcome === "reply" || outcome === "silent";

export interface Reply {
  readonly code: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  /** The reader owns them. */
  readonly fds: Fd[];
}

const REPLY_ACK = 1n << BigInt(ProtocolFeature.REPLY_ACK);
const barrier = frontEndMessages.GET_FEATURES.code;
const setProtocol = frontEndMessages.SET_PROTOCOL_FEATURES.code;

type Frame = Pick<Draft, "code" | "flags" | "size" | "payload">;

const bytesOf = ({ code, flags, size, payload }: Frame): Uint8Array => {
  const data = new Uint8Array(Header.size + payload.length);
  Header.encode({ request: code >>> 0, flags: flags >>> 0, size: size >>> 0 }, data);
  data.set(payload, Header.size);
  return data;
};

const barrierBytes = bytesOf({
  code: barrier,
  flags: Flag.VERSION,
  size: 0,
  payload: new Uint8Array(0),
});

export class Wire implements Disposable {
  readonly socket: Fd;
  /** Learns of every reply that a row always has. */
  onReply: (name: string, reply: Reply) => void = (_, { fds }) => {
    for (const fd of fds) fd.close();
  };
  /** Learns of requests on this socket. Without it there must be none. */
  onRequest: ((code: number) => void) | null = null;
  /** REPLY_ACK is negotiated. */
  replyAck = false;
  open = true;
  readonly #out = new MessageBuffer(BUFFER);
  readonly #in = new MessageBuffer(BUFFER);
  #staged = 0;
  #have = 0;
  #at = 0;
  /** Descriptors that came with the last reply of what was received last. */
  #fds: Fd[] = [];

  constructor(path: string) {
    this.socket = connectUnix(path);
  }

  /** Sends the drafts and collects their answers. Throws `Finding` when one must not be. */
  exchange(drafts: readonly Draft[]): Outcome[] {
    let alive = true;
    for (const draft of drafts) {
      alive = alive && this.#send(draft);
      if (alive && draft.truncate === undefined && !this.#isAnswered(draft)) {
        this.#stage(barrierBytes);
      }
      if (draft.truncate !== undefined || !alive) break;
    }
    if (alive) this.#flush();
    const outcomes: Outcome[] = [];
    for (const draft of drafts) {
      const outcome = this.#outcome(draft);
      if (accepted(outcome)) refuseWrong(draft);
      outcomes.push(outcome);
    }
    return outcomes;
  }

  /** Sends bytes that nothing is to be expected of. */
  sendFrame(frame: Frame): void {
    this.#transmit(bytesOf(frame), []);
  }

  /** True when the answer alone tells what became of a message. */
  #isAnswered({ row, code, flags }: Draft): boolean {
    // It may count as an answer itself, or end the connection.
    if ((flags & Flag.REPLY) !== 0) return false;
    if (row !== undefined && row.reply !== "ack") return true;
    return code !== setProtocol && this.#wantsAck(flags);
  }

  #wantsAck(flags: number): boolean {
    return this.replyAck && (flags & Flag.NEED_REPLY) !== 0;
  }

  #stage(data: Uint8Array): void {
    this.#out.data.set(data, this.#staged);
    this.#staged += data.length;
  }

  #send(draft: Draft): boolean {
    const data = bytesOf(draft);
    if (this.#staged + data.length + barrierBytes.length > BUFFER && !this.#flush()) return false;
    const whole = draft.fds.length === 0 && draft.cuts === undefined;
    if (whole && draft.truncate === undefined) {
      this.#stage(data);
      return true;
    }
    if (!this.#flush()) return false;
    const cuts = draft.cuts ?? [];
    const end = draft.truncate ?? data.length;
    const ends = [...cuts.filter((cut) => cut > 0 && cut < end), end];
    let start = 0;
    for (const [i, stop] of ends.entries()) {
      const fds = i === (draft.carrier ?? 0) ? draft.fds.map(({ fd }) => fd.number) : [];
      if (!this.#transmit(data.subarray(start, stop), fds)) return false;
      start = stop;
      // Lets the other side see a part of a message now and then.
      if (i + 1 < ends.length && stop % 3 === 0) sleep(0);
    }
    return true;
  }

  #flush(): boolean {
    if (this.#staged === 0) return true;
    const data = this.#out.data.slice(0, this.#staged);
    this.#staged = 0;
    return this.#transmit(data, []);
  }

  #transmit(data: Uint8Array, fds: readonly number[]): boolean {
    let passed = fds;
    for (let done = 0; done < data.length; ) {
      const part = data.subarray(done);
      this.#out.data.set(part);
      let sent: number;
      try {
        sent = this.#out.send(this.socket, 0, part.length, passed);
      } catch (error) {
        if (error instanceof SystemError && /EPIPE|ECONNRESET/.test(error.code)) return false;
        throw error;
      }
      if (sent > 0) {
        done += sent;
        passed = [];
      } else if (!waitFor(this.socket.number, POLLOUT, ANSWER_LIMIT)) {
        throw new Finding(`The back-end reads no message for ${ANSWER_LIMIT} ms`);
      }
    }
    return true;
  }

  #outcome(draft: Draft): Outcome {
    if (!this.open) return "unseen";
    if (draft.truncate !== undefined) {
      this.open = false;
      return "cut";
    }
    const { row, code, flags, name } = draft;
    const isReply = (flags & Flag.REPLY) !== 0;
    const own = row !== undefined && row.reply !== "ack" && !isReply;
    const reply = this.#receive(name);
    if (reply === null) {
      this.open = false;
      return "closed";
    }
    if (own) return this.#ownReply(draft, reply);
    const asked = (flags & Flag.NEED_REPLY) !== 0 && !isReply;
    // What SET_PROTOCOL_FEATURES switches on or off already counts for its own acknowledgement.
    const mayAck = code === setProtocol ? asked : asked && this.replyAck;
    if (mayAck && reply.code === code) {
      const value = this.#acknowledgement(name, reply);
      if (code !== setProtocol) return value === 0n ? "ack" : "nack";
      if (value === 0n) this.#agree(draft);
      const next = this.#receive(name);
      if (next === null) throw new Finding(`The connection ended after ${name} was acknowledged`);
      this.#expectBarrier(name, next);
      return value === 0n ? "ack" : "nack";
    }
    this.#expectBarrier(name, reply);
    if (isReply && this.onRequest === null) throw new Finding(`A reply to ${name} was accepted`);
    if (code === setProtocol) {
      this.#agree(draft);
      if (asked && this.replyAck) throw new Finding(`${name} was not acknowledged`);
    }
    return "silent";
  }

  #agree({ payload }: Draft): void {
    this.replyAck = (U64.decode(payload).value & REPLY_ACK) !== 0n;
  }

  #acknowledgement(name: string, { payload, fds }: Reply): bigint {
    if (payload.length !== U64.size || fds.length > 0) {
      throw new Finding(`${name} is acknowledged by ${payload.length} bytes, ${fds.length} fds`);
    }
    return U64.decode(payload).value;
  }

  #expectBarrier(name: string, reply: Reply): void {
    if (reply.code !== barrier) {
      throw new Finding(`After ${name} message ${reply.code} is answered, which was not asked for`);
    }
    if (reply.payload.length !== U64.size) throw new Finding("GET_FEATURES has a wrong reply");
  }

  #ownReply({ name, row }: Draft, reply: Reply): Outcome {
    const rule = row!.reply as Exclude<MessageRow["reply"], "ack">;
    const { payload, fds } = reply;
    if (reply.code !== row!.code) throw new Finding(`${name} is answered by ${reply.code}`);
    const { min, max } = payloadSizes[rule.payload];
    const empty = payload.length === 0 && rule.payload === "config";
    if (!empty && (payload.length < min || payload.length > max)) {
      throw new Finding(`The reply to ${name} has ${payload.length} bytes, not ${min} to ${max}`);
    }
    if (fds.length > (rule.fds ?? 0)) {
      throw new Finding(`The reply to ${name} has ${fds.length} descriptors`);
    }
    const refused = empty || isRefusal(rule, payload);
    if (refused) for (const fd of fds.splice(0)) fd.close();
    else this.onReply(name, reply);
    return refused ? "refusal" : "reply";
  }

  /** The next reply, or null when the connection is over. */
  #receive(name: string): Reply | null {
    while (this.#have - this.#at < Header.size) if (!this.#more(name)) return null;
    const { request, flags, size } = Header.decode(this.#in.data, this.#at);
    if ((flags & Flag.REPLY) === 0 && this.onRequest !== null) {
      while (this.#have - this.#at < Header.size + size) if (!this.#more(name)) return null;
      this.#at += Header.size + size;
      this.onRequest(request);
      return this.#receive(name);
    }
    if (flags !== (Flag.VERSION | Flag.REPLY)) {
      throw new Finding(`The answer ${request} to ${name} has flags 0x${flags.toString(16)}`);
    }
    const length = Header.size + size;
    if (length > BUFFER / 2) throw new Finding(`The answer to ${name} has ${size} bytes`);
    while (this.#have - this.#at < length) {
      if (!this.#more(name)) throw new Finding(`The answer to ${name} is cut off`);
    }
    const payload = this.#in.data.slice(this.#at + Header.size, this.#at + length);
    this.#at += length;
    // A receive ends with the message that carries descriptors.
    const last = this.#at === this.#have;
    const fds = last ? this.#fds.splice(0) : [];
    return { code: request, payload, fds };
  }

  #more(name: string): boolean {
    if (this.#at > 0) {
      this.#in.data.copyWithin(0, this.#at, this.#have);
      this.#have -= this.#at;
      this.#at = 0;
    }
    if (!waitFor(this.socket.number, POLLIN, ANSWER_LIMIT)) {
      throw new Finding(`No answer within ${ANSWER_LIMIT} ms, at ${name}`);
    }
    let got: number;
    try {
      got = this.#in.receive(this.socket, this.#have, BUFFER - this.#have);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ECONNRESET") return false;
      throw error;
    }
    this.#fds.push(...this.#in.received);
    if (got > 0) this.#have += got;
    return got !== 0;
  }

  [Symbol.dispose](): void {
    this.open = false;
    this.socket.close();
    for (const fd of this.#fds.splice(0)) fd.close();
  }
}

/** Throws `Finding` for a message that must not be accepted, whatever it says. */
function refuseWrong({ name, row, size, flags, fds, carrier = 0 }: Draft): void {
  if (row === undefined) throw new Finding("A message that there is not was accepted");
  const { min, max } = payloadSizes[row.payload];
  const [fewest, most] = row.fds;
  const wrong =
    size < min || size > max
      ? `${size} bytes`
      : carrier === 0 && (fds.length < fewest || fds.length > most)
        ? `${fds.length} descriptors`
        : (flags & Flag.VERSION_MASK) !== Flag.VERSION
          ? `flags ${flags}`
          : null;
  if (wrong !== null) throw new Finding(`${name} was accepted with ${wrong}`);
}

/** True when the reply that a row always has says no. */
function isRefusal(
  { refusal, payload: name }: Exclude<MessageRow["reply"], "ack">,
  payload: Uint8Array,
): boolean {
  if (name === "u64" && refusal !== undefined) {
    const { value } = U64.decode(payload);
    return value === refusal;
  }
  // No crypto session has this id.
  return name === "cryptoSession" && payload.subarray(-8).every((byte) => byte === 0xff);
}
