/**
 * Payloads and descriptors that are mostly right, for any row.
 *
 * Two rules stand for most of what a front-end knows: `SET_X` takes what `GET_X` was answered, and the
 * names of fields say what they hold. Where that is not enough to have a message accepted there is a
 * line for its payload here.
 */
import {
  ConfigHeader,
  MAX_CONFIG_SIZE,
  type PayloadName,
  payloadSizes,
} from "../../core/payloads.ts";
import {
  frontEndMessages,
  type MessageRow,
  ProtocolFeature,
  VRING_NO_FD,
} from "../../core/protocol.ts";
import {
  defaultTable,
  memRegion,
  memTable,
  state,
  user,
  vringAddresses,
} from "../bad-input/guest.ts";
import type { Random } from "../bad-input/random.ts";
import { RING_STRIDE } from "../bad-input/ring.ts";
import { RINGS } from "./arena.ts";
import { likelyPayload, wildWord } from "./fields.ts";
import { Objects, scribble } from "./objects.ts";
import type { Passed, Reply } from "./wire.ts";

/** A message to make. */
export interface Step {
  readonly row: MessageRow;
  /** The vring, where the row has one. */
  readonly index?: number;
  readonly num?: number;
}

/** Virtio features from here on change how rings work; not every connection takes them. */
const RING_KINDS = 33n;

export class PayloadMaker {
  readonly #random: Random;
  readonly #objects: Objects;
  readonly #rows: readonly MessageRow[];
  readonly #queues: number;
  /** Replies by the names of their rows. */
  readonly #replies = new Map<string, Uint8Array>();
  /** This connection notifies in band, if it may. */
  inBand = false;
  /** Virtio features that this connection takes if it can. */
  #wanted = 0n;

  constructor(random: Random, objects: Objects, rows: readonly MessageRow[], queues: number) {
    this.#random = random;
    this.#objects = objects;
    this.#rows = rows;
    this.#queues = queues;
  }

  /** A new connection begins. */
  begin(): void {
    const random = this.#random;
    this.#replies.clear();
    this.inBand = random.chance(0.3);
    this.#wanted = ((1n << RING_KINDS) - 1n) | (BigInt(random.bits()) << RING_KINDS);
  }

  /** What the back-end answered. Its descriptors are the maker's. */
  learn(name: string, { payload, fds }: Reply): void {
    this.#replies.set(name, payload);
    this.#objects.keep(name, fds);
    if (this.#random.chance(0.3)) for (const fd of fds) scribble(fd, this.#random);
  }

  /** The payload of a message. Its fields are `wild` with this probability. */
  payload(step: Step, wild: number): Uint8Array {
    const { row } = step;
    const random = this.#random;
    const answered = this.#replies.get(row.name.replace(/^SET_/, "GET_"));
    if (row.payload === "u64") return this.#u64(step, answered, wild);
    const { min, max } = payloadSizes[row.payload];
    const fits = answered !== undefined && answered.length >= min && answered.length <= max;
    if (fits && row.name.startsWith("SET_") && random.chance(0.6)) return answered.slice();
    return this.#special(row.payload, step, wild) ?? likelyPayload(random, row.payload, wild);
  }

  /** Payloads whose parts must fit together. */
  #special(name: PayloadName, step: Step, wild: number): Uint8Array | null {
    const random = this.#random;
    const index = step.index ?? this.#index();
    switch (name) {
      case "vringState":
        if (step.num === undefined) return this.#anyState(index, wild);
        return state(index, random.chance(wild) ? random.bits() : step.num);
      case "vringAddr":
        return this.#addresses(index, wild);
      case "memTable":
        return memTable(this.#table(wild));
      case "memRegion":
        return memRegion(this.#region(2 + random.below(4), wild));
      case "config":
        return this.#config(wild);
      default:
        return null;
    }
  }

  #anyState(index: number, wild: number): Uint8Array {
    const payload = likelyPayload(this.#random, "vringState", wild);
    new DataView(payload.buffer).setUint32(0, index, true);
    return payload;
  }

  #index(): number {
    const random = this.#random;
    if (random.chance(0.95)) return random.below(this.#queues);
    return random.pick([this.#queues, 7, 127, 128, 255, 256, 65536, 0xffffffff]);
  }

  #u64(step: Step, answered: Uint8Array | undefined, wild: number): Uint8Array {
    const payload = new Uint8Array(8);
    const view = new DataView(payload.buffer);
    view.setBigUint64(0, this.#u64Value(step, answered, wild), true);
    return payload;
  }

  #u64Value({ row, index, num }: Step, answered: Uint8Array | undefined, wild: number): bigint {
    const random = this.#random;
    if (random.chance(wild)) return wildWord(random);
    if (row.fds[1] === 1 && row.fds[0] === 0) {
      const bare = random.chance(0.1) || (this.inBand && random.chance(0.8));
      return BigInt((index ?? this.#index()) | (bare ? VRING_NO_FD : 0));
    }
    if (num !== undefined) return BigInt(num);
    if (answered?.length === 8 && random.chance(0.98)) {
      const offered = u64At(answered, 0);
      return /FEATURES/.test(row.name) ? this.#subset(row, offered) : offered;
    }
    // An id, perhaps, that another message of its kind was answered with.
    const known = this.#relatives(row);
    if (known.length > 0 && random.chance(0.8)) {
      const reply = random.pick(known);
      return u64At(reply, reply.length - 8);
    }
    return BigInt(random.pick([0, 1, 2, 4, 15, 68, 1500, 9000, random.below(256)]));
  }

  /** Replies to rows that need the same feature. */
  #relatives({ needs }: MessageRow): Uint8Array[] {
    if (needs === undefined) return [];
    const related = [...this.#replies].filter(
      ([name]) => this.#rows.find((row) => row.name === name)?.needs === needs,
    );
    return related.map(([, reply]) => reply).filter(({ length }) => length >= 8);
  }

  /** Bits of what was offered, most of the time all that are needed to go on. */
  #subset(row: MessageRow, offered: bigint): bigint {
    const random = this.#random;
    let bits = offered;
    if (row.code === frontEndMessages.SET_PROTOCOL_FEATURES.code) {
      if (!this.inBand) bits &= ~(1n << BigInt(ProtocolFeature.INBAND_NOTIFICATIONS));
      if (random.chance(0.1)) bits &= ~(1n << BigInt(ProtocolFeature.REPLY_ACK));
    } else bits &= this.#wanted;
    if (random.chance(0.85)) return bits;
    const kept = (BigInt(random.bits()) << 32n) | BigInt(random.bits());
    const base = (1n << 32n) | (1n << 30n) | (1n << BigInt(ProtocolFeature.REPLY_ACK));
    return bits & (kept | base);
  }

  #addresses(index: number, wild: number): Uint8Array {
    const random = this.#random;
    const base = (index % RINGS) * RING_STRIDE;
    const near = (at: number): bigint => {
      if (random.chance(wild)) return wildWord(random);
      return BigInt(user(base + at) + (random.chance(0.03) ? random.below(32) : 0));
    };
    return vringAddresses(index, near, random.below(2));
  }

  #table(wild: number) {
    const random = this.#random;
    const count = random.chance(0.8) ? 2 : 2 + random.below(7);
    return Array.from({ length: count }, (_, slot) => this.#region(slot, wild));
  }

  /** The region of a slot is always the same, so that what was added can be removed. */
  #region(slot: number, wild: number) {
    const random = this.#random;
    if (random.chance(wild / 4)) {
      const word = () => wildWord(random);
      return { guest: word(), size: word(), user: word(), offset: word() };
    }
    if (slot < defaultTable.length) return defaultTable[slot]!;
    const place = slot * 2 ** 32;
    const offset = slot % 2 === 0 ? 4096 * slot : 0;
    return { guest: place, user: 2 ** 46 + place, size: 65536 * slot, offset };
  }

  #config(wild: number): Uint8Array {
    const random = this.#random;
    const size = 1 + random.below(random.chance(0.8) ? 16 : MAX_CONFIG_SIZE);
    const payload = new Uint8Array(ConfigHeader.size + size);
    const offset = random.chance(wild) ? random.bits() : random.below(MAX_CONFIG_SIZE - size + 1);
    const claimed = random.chance(wild / 4) ? random.bits() : size;
    const values = { offset: random.chance(0.5) ? offset : offset % 64, size: claimed };
    ConfigHeader.encode({ ...values, flags: random.below(2) }, payload);
    return payload;
  }

  /** The descriptors that go with a payload. */
  descriptors(row: MessageRow, payload: Uint8Array): Passed[] {
    const [fewest, most] = row.fds;
    if (most === 0) return [];
    const repeat = (count: number, kind: () => string) =>
      Array.from({ length: count }, () => this.#objects.get(kind()));
    if (row.payload === "memTable") return repeat(Math.min(8, payload[0]!), () => "guest");
    if (row.payload === "u64" && fewest === 0 && (payload[1]! & 1) !== 0) return [];
    const count = row.payload === "u64" ? most : this.#random.pick(row.fds);
    return repeat(count, () => this.#kind(row, payload));
  }

  /** The kind of descriptor that a row wants, or any where its name does not tell. */
  #kind({ name, payload: payloadName }: MessageRow, payload: Uint8Array): string {
    const random = this.#random;
    if (payloadName === "memRegion") return "guest";
    if (/KICK|CALL|ERR|LOG_FD/.test(name)) {
      return random.chance(0.9) ? `eventfd-${random.below(4)}` : random.pick(Objects.kinds);
    }
    if (/REQ_FD|SOCKET/.test(name)) return "channel";
    if (payloadName === "deviceState") {
      if (random.chance(0.05)) return random.pick(["regular", "socket", "pipe-closed"]);
      return payload[0] === 0 ? "state-save" : random.pick(["state-load", "state-load-long"]);
    }
    if (this.#replies.has(name.replace(/^SET_/, "GET_"))) {
      return `reply-${name.replace(/^SET_/, "GET_")}`;
    }
    return random.chance(0.5) ? "memfd-large" : random.pick(Objects.kinds);
  }
}

export function u64At(bytes: Uint8Array, at: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
}
