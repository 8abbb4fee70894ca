/** Messages that are mostly right, in an order that mostly makes sense. */
import { Flag, frontEndMessages, type MessageRow } from "../../core/protocol.ts";
import type { Random } from "../bad-input/random.ts";
import { RINGS } from "./arena.ts";
import { mutate } from "./mutate.ts";
import type { Objects } from "./objects.ts";
import { PayloadMaker, type Step, u64At } from "./payload-maker.ts";
import { accepted, type Draft, type Outcome, type Reply } from "./wire.ts";

const byName: ReadonlyMap<string, MessageRow> = new Map(Object.entries(frontEndMessages));

/** Makes rings run; some connections do without, because other messages want them stopped. */
const starts = ({ name }: MessageRow): boolean =>
  /^SET_VRING_(KICK|ENABLE)$|^VRING_KICK$/.test(name);

export interface MakerOptions {
  /** What the back-end knows. */
  readonly rows: readonly MessageRow[];
  /** The row that this burst is about, and those that go with it. */
  readonly focus: MessageRow;
  /** Vrings of the device. */
  readonly queues: number;
}

export class MessageMaker {
  readonly #random: Random;
  readonly #objects: Objects;
  readonly #rows: readonly MessageRow[];
  readonly #family: readonly MessageRow[];
  readonly #queues: number;
  readonly #payloads: PayloadMaker;
  /** How much more often a message ended a connection than it did not. */
  readonly #fatal = new Map<string, number>();
  #plan: Step[] = [];
  /** This connection starts rings. */
  #ringing = true;
  #memory = false;
  /** Protocol features that were accepted last. */
  #protocol = 0n;

  constructor(random: Random, objects: Objects, { rows, focus, queues }: MakerOptions) {
    this.#random = random;
    this.#objects = objects;
    this.#rows = rows;
    this.#queues = Math.min(queues, RINGS);
    this.#payloads = new PayloadMaker(random, objects, rows, this.#queues);
    this.#family = rows.filter(
      ({ needs, name }) => name === focus.name || (needs !== undefined && needs === focus.needs),
    );
  }

  /** A new connection begins. */
  begin(): void {
    const random = this.#random;
    this.#payloads.begin();
    this.#memory = false;
    this.#protocol = 0n;
    this.#ringing = random.chance(0.6);
    this.#plan = random.chance(0.05) ? [] : this.#handshake();
  }

  /** What the back-end answered. Its descriptors are the maker's. */
  learn(name: string, reply: Reply): void {
    this.#payloads.learn(name, reply);
  }

  /** What became of a draft. */
  told({ name, payload, row }: Draft, outcome: Outcome): void {
    const change = outcome === "closed" ? 1 : -1;
    if (outcome !== "unseen") this.#fatal.set(name, (this.#fatal.get(name) ?? 0) + change);
    if (!accepted(outcome)) return;
    // What was hopeless may have waited for this.
    if (row?.needs !== undefined && row.fds[0] > 0) this.#fatal.clear();
    if (name === "SET_PROTOCOL_FEATURES") this.#protocol = u64At(payload, 0);
    if (name === "SET_MEM_TABLE") this.#memory = true;
    if (name === "SET_OWNER") this.#memory = false;
  }

  /** Messages to send at once. */
  batch(limit: number): Draft[] {
    const drafts: Draft[] = [];
    const count = Math.min(limit, 1 + this.#random.below(24));
    while (drafts.length < count) {
      const draft = this.#next();
      drafts.push(draft);
      // What comes next depends on the answer.
      if (draft.truncate !== undefined || /^(GET|SET)_(PROTOCOL_)?FEATURES$/.test(draft.name))
        break;
      if (draft.row !== undefined && (draft.row.reply as { fds?: number }).fds) break;
    }
    return drafts;
  }

  #handshake(): Step[] {
    const names = [
      "GET_FEATURES",
      "SET_OWNER",
      "GET_PROTOCOL_FEATURES",
      "SET_PROTOCOL_FEATURES",
      ...(this.#random.chance(0.5) ? ["GET_QUEUE_NUM", "SET_BACKEND_REQ_FD"] : []),
      "SET_FEATURES",
      ...(this.#random.chance(0.9) ? ["SET_MEM_TABLE"] : []),
    ];
    const steps = names.map((name) => ({ row: byName.get(name)! }));
    return this.#ringing ? [...steps, ...this.#ring(0)] : steps;
  }

  /** Sets a ring up and starts it. */
  #ring(index: number): Step[] {
    const names = ["NUM", "BASE", "ADDR", "CALL", "ERR", "KICK", "ENABLE"];
    const num = new Map([
      ["NUM", 64],
      ["BASE", 0],
      ["ENABLE", 1],
    ]);
    return names.map((name) => ({
      row: byName.get(`SET_VRING_${name}`)!,
      index,
      num: num.get(name),
    }));
  }

  #next(): Draft {
    const random = this.#random;
    if (this.#plan.length === 0) this.#makePlan();
    const step = this.#plan.shift()!;
    // What a connection cannot do without is left alone most of the time.
    const draft = this.#draft(step, random.chance(0.06) ? 0.4 : 0);
    return random.chance(0.08) ? mutate(random, draft, this.#objects) : draft;
  }

  #makePlan(): void {
    const random = this.#random;
    if (!this.#memory && random.chance(0.5)) {
      this.#plan = [{ row: frontEndMessages.SET_MEM_TABLE }];
    } else if (this.#ringing && random.chance(0.08)) {
      const index = random.below(this.#queues);
      this.#plan = [{ row: frontEndMessages.GET_VRING_BASE, index }, ...this.#ring(index)];
    } else if (this.#payloads.inBand && random.chance(0.05)) {
      this.#plan = [
        { row: frontEndMessages.VRING_KICK, index: random.below(this.#queues), num: 0 },
      ];
    } else if (!this.#ringing && random.chance(0.05)) {
      this.#plan = [{ row: frontEndMessages.SET_STATUS, num: 0 }];
    } else {
      let row = random.pick(random.chance(0.35) ? this.#family : this.#rows);
      // Most of what a connection does not survive is left out, or none would get anywhere.
      if (this.#ends(row) && random.chance(0.9)) row = random.pick(this.#rows);
      if (this.#ends(row) && random.chance(0.9)) row = frontEndMessages.GET_FEATURES;
      const skip = !this.#ringing && starts(row) && random.chance(0.95);
      this.#plan = [{ row: skip ? random.pick(this.#family) : row }];
      if (skip && starts(this.#plan[0]!.row)) this.#ringing = true;
    }
  }

  /** The row cannot be refused otherwise, and what it needs is not there. */
  #ends({ name, reply, needs }: MessageRow): boolean {
    if (reply === "ack" || reply.refusal !== undefined || needs === undefined) return false;
    if ((this.#fatal.get(name) ?? 0) > 0) return true;
    return ((this.#protocol >> BigInt(needs)) & 1n) === 0n;
  }

  /** A message of a row. Its fields are `wild` with this probability. */
  #draft(step: Step, wild: number): Draft {
    const random = this.#random;
    const { row } = step;
    const payload = this.#payloads.payload(step, wild);
    const fds = this.#payloads.descriptors(row, payload);
    // Without an acknowledgement a refusal ends the connection.
    const ask = random.chance(wild > 0 ? 0.98 : 0.92) ? Flag.NEED_REPLY : 0;
    const flags = Flag.VERSION | ask;
    return { name: row.name, code: row.code, row, flags, size: payload.length, payload, fds };
  }
}
