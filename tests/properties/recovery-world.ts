/**
 * A driver whose back-ends are killed at any moment, with a region that survives them. What it makes
 * available is submitted in order until it is shown as used, and never again.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { inflightQueueBytes } from "../../core/inflight.ts";
import type { Queue } from "../../core/queue.ts";
import type { Buffer } from "../core/driver.ts";
import type { TestGuest } from "../core/guest.ts";
import { crashing } from "./crash-points.ts";
import type { DriverSide, RingPlan, Shown } from "./recovery-side.ts";

interface ChainPlan {
  readonly buffers: readonly { readonly length: number; readonly writable: boolean }[];
  readonly indirect: boolean;
}

type Act =
  | { readonly act: "offer"; readonly chains: readonly ChainPlan[] }
  | { readonly act: "take" | "complete"; readonly count: number; readonly which: number }
  | { readonly act: "reap" | "putBack" | "publish" | "listen" | "stop" };

interface Step {
  readonly act: Act;
  /** The point at which the back-end is killed if the act goes on for so long. */
  readonly crash: number | null;
  /** The same for each of its successors' starts, until one has none. */
  readonly again: readonly number[];
  /** What the driver makes available while no back-end is there, and whether it takes completions. */
  readonly meanwhile: readonly ChainPlan[];
  readonly reaps: boolean;
}

export interface RecoveryPlan {
  readonly ring: RingPlan;
  /** Queues of the region are longer than the ring by this. */
  readonly extra: number;
  readonly inOrder: boolean;
  readonly eventIdx: boolean;
  /** Points at which the first starts end. */
  readonly first: readonly number[];
  readonly steps: readonly Step[];
}

const chainPlan: fc.Arbitrary<ChainPlan> = fc.record({
  buffers: fc
    .array(fc.record({ length: fc.integer({ min: 1, max: 9 }), writable: fc.boolean() }), {
      minLength: 1,
      maxLength: 3,
    })
    // Readable ones come first.
    .map((buffers) => buffers.sort((a, b) => Number(a.writable) - Number(b.writable))),
  indirect: fc.boolean(),
});

const few = (max: number) => fc.array(chainPlan, { maxLength: max });
const counted = (act: "take" | "complete") =>
  fc.record({
    act: fc.constant(act),
    count: fc.integer({ min: 1, max: 4 }),
    which: fc.nat({ max: 7 }),
  });
const plain = (act: "reap" | "putBack" | "publish" | "listen" | "stop") =>
  fc.record({ act: fc.constant(act) });

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constant("offer" as const), chains: few(4) }),
  },
  { weight: 4, arbitrary: counted("take") },
  { weight: 4, arbitrary: counted("complete") },
  { weight: 3, arbitrary: plain("publish") },
  { weight: 2, arbitrary: plain("reap") },
  { weight: 1, arbitrary: plain("putBack") },
  { weight: 1, arbitrary: plain("listen") },
  { weight: 1, arbitrary: plain("stop") },
);

/** A point at which something ends: near its beginning as often as anywhere. */
const point = fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 40 }));
/** Points at which several starts end. */
const starts = fc.oneof(
  { weight: 3, arbitrary: fc.constant<number[]>([]) },
  { weight: 2, arbitrary: fc.array(point, { maxLength: 3 }) },
);

const step: fc.Arbitrary<Step> = fc.record({
  act,
  crash: fc.option(point, { freq: 2 }),
  again: starts,
  meanwhile: few(3),
  reaps: fc.boolean(),
});

/** Scenarios of rings whose sizes and starting places are given. */
export function recoveryPlan(rings: fc.Arbitrary<RingPlan>): fc.Arbitrary<RecoveryPlan> {
  return fc.record({
    ring: rings,
    extra: fc.nat({ max: 3 }),
    inOrder: fc.boolean(),
    eventIdx: fc.boolean(),
    first: starts,
    steps: fc.array(step, { minLength: 1, maxLength: 40, size: "max" }),
  });
}

/** Sizes and places where both ends of a lap and of 16 bits are near. */
export const splitRings = fc.record({
  size: fc.constantFrom(1, 2, 4, 8, 16),
  start: fc.oneof(fc.nat({ max: 20 }), fc.integer({ min: 65500, max: 65535 })),
});
export const packedRings = fc
  .oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 13 }))
  .chain((size) => fc.record({ size: fc.constant(size), start: fc.nat({ max: 2 * size - 1 }) }));

interface Request {
  readonly id: number;
  /** Places that it takes in the ring. */
  readonly slots: number;
  readonly sent: Uint8Array;
  readonly room: number;
}

export type Kind = "split" | "packed";

/** How the requests of all scenarios fared. */
export const tally = { crashes: 0, replayed: 0 };

export class RecoveryWorld {
  readonly #guest: TestGuest;
  readonly #kind: Kind;
  readonly #plan: RecoveryPlan;
  readonly #side: DriverSide;
  readonly #part: Uint8Array<ArrayBuffer>;
  #queue: Queue;
  /** Made available and not taken. */
  readonly #waiting: Request[] = [];
  /** Taken and not shown as used, in the order taken, by whichever back-end. */
  readonly #taken: Request[] = [];
  /** Those that this back-end has not taken. */
  #replay: Request[] = [];
  /** Those of this back-end that it has not completed, and the one it may put back. */
  #open: Request[] = [];
  #last: Request | null = null;
  /** Completed and not used because of their order; used and not shown. */
  #early = new Map<Request, number>();
  #staged: { request: Request; length: number }[] = [];
  /** Everything that was shown, and how much of it the driver has taken. */
  readonly #shown: Shown[] = [];
  #reaped = 0;
  #slotsUsed = 0;
  #memory = 0x4000;
  #seed = 1;

  constructor(guest: TestGuest, kind: Kind, side: DriverSide, plan: RecoveryPlan) {
    this.#guest = guest;
    this.#kind = kind;
    this.#plan = plan;
    this.#side = side;
    const bytes = inflightQueueBytes(side.size + plan.extra, kind === "packed");
    this.#part = new Uint8Array(new ArrayBuffer(bytes));
    const base = side.base(0, 0);
    for (const crash of plan.first) crashing(crash, () => void this.#make(base));
    this.#queue = this.#make(base);
  }

  play(): void {
    for (const step of this.#plan.steps) {
      this.#step(step);
      this.#inspect();
    }
    this.#finish();
  }

  #step({ act, crash, again, meanwhile, reaps }: Step): void {
    if (act.act === "offer") return this.#offer(act.chains);
    if (act.act === "reap") return this.#reap();
    const whole = crashing(crash, () => this.#operate(act));
    if (whole && act.act !== "stop") return;
    tally.crashes++;
    this.#settle();
    if (reaps) this.#reap();
    this.#offer(meanwhile);
    this.#restart(again, whole ? null : act.act);
  }

  /** Everything that is left is done, and nothing is recorded then. */
  #finish(): void {
    while (this.#replay.length + this.#waiting.length > 0) this.#take();
    assert.equal(this.#queue.next(), false, "a request that nobody made");
    while (this.#open.length > 0) this.#complete(5);
    this.#publish();
    this.#inspect();
    this.#reap();
    this.#restart([], null);
    assert.equal(this.#queue.replays, 0, "something is recorded still");
    assert.equal(this.#queue.next(), false);
  }

  // What the driver does.

  #offer(plans: readonly ChainPlan[]): void {
    for (const { buffers: lengths, indirect } of plans) {
      const buffers = lengths.map((buffer) => ({
        ...buffer,
        address: this.#allocate(buffer.length),
      }));
      const table = indirect ? this.#allocate(16 * buffers.length) : null;
      const id = this.#side.offer(buffers, table);
      if (id === null) continue;
      const slots = this.#kind === "split" || indirect ? 1 : buffers.length;
      const sent = this.#fill(buffers);
      const room = buffers.reduce((sum, b) => sum + (b.writable ? b.length : 0), 0);
      this.#waiting.push({ id, slots, sent, room });
    }
  }

  #allocate(length: number): number {
    if (this.#memory + length > 0x10000) this.#memory = 0x4000;
    const at = this.#memory;
    this.#memory += (length + 15) & ~15;
    return at;
  }

  #fill(buffers: readonly Buffer[]): Uint8Array {
    const sent: number[] = [];
    for (const { address, length, writable } of buffers) {
      if (writable) continue;
      const seed = this.#seed++;
      const bytes = Uint8Array.from({ length }, (_, i) => seed * 31 + i * 7 + 1);
      this.#guest.write(address, bytes);
      sent.push(...bytes);
    }
    return Uint8Array.from(sent);
  }

  #reap(): void {
    for (const element of this.#side.reap()) {
      assert.deepEqual(element, this.#shown[this.#reaped++], "a completion");
    }
  }

  // What a back-end does.

  #operate(act: Act): void {
    switch (act.act) {
      case "take":
        for (let i = 0; i < act.count; i++) this.#take();
        return;
      case "complete":
        for (let i = 0; i < act.count; i++) this.#complete(act.which + i);
        return;
      case "putBack":
        return this.#putBack();
      case "publish":
        return this.#publish();
      case "listen":
        this.#queue.suppressKicks();
        this.#queue.requestKick();
        return;
      case "stop":
        this.#publish();
        assert.equal(this.#queue.base, this.#base(), "the base of a stop");
        return this.#queue.close();
    }
  }

  #take(): void {
    const again = this.#replay.length > 0;
    const expected = this.#replay[0] ?? this.#waiting[0];
    assert.equal(this.#queue.next(), expected !== undefined, "next() tells of a request");
    if (expected === undefined) return;
    if (again) {
      this.#replay.shift();
      tally.replayed++;
    } else this.#taken.push(this.#waiting.shift()!);
    this.#open.push(expected);
    this.#last = expected;
    const { chain } = this.#queue;
    assert.equal(chain.head, expected.id, "requests come in the order taken");
    assert.equal(chain.writableBytes, expected.room);
    const sent = new Uint8Array(chain.readableBytes);
    chain.read(sent);
    assert.deepEqual(sent, expected.sent);
  }

  #putBack(): void {
    const request = this.#last;
    if (request === null || this.#open.at(-1) !== request) return;
    this.#queue.putBack();
    this.#last = null;
    this.#open.pop();
    if (this.#queue.replays > this.#replay.length) this.#replay.unshift(request);
    else {
      assert.equal(this.#taken.pop(), request, "a request that was taken again is replayed still");
      this.#waiting.unshift(request);
    }
  }

  #complete(which: number): void {
    const at = which % this.#open.length;
    const request = this.#open[at];
    if (request === undefined) return;
    const length = request.room > 0 ? 1 + (which % request.room) : 0;
    this.#last = null;
    // Noted first: the queue may be killed in the middle, and the driver sees none of it before publish.
    this.#open.splice(at, 1);
    this.#use(request, length);
    this.#queue.complete(request.id, length);
  }

  #use(request: Request, length: number): void {
    if (!this.#plan.inOrder) {
      this.#staged.push({ request, length });
      return;
    }
    this.#early.set(request, length);
    const done = new Set(this.#staged.map((each) => each.request));
    for (const oldest of this.#taken) {
      if (done.has(oldest)) continue;
      const written = this.#early.get(oldest);
      if (written === undefined) break;
      this.#early.delete(oldest);
      this.#staged.push({ request: oldest, length: written });
    }
  }

  #publish(): void {
    this.#queue.publish();
    this.#show();
  }

  /** What is staged is shown. */
  #show(): void {
    for (const { request, length } of this.#staged) {
      this.#shown.push({ id: request.id, length });
      this.#taken.splice(this.#taken.indexOf(request), 1);
      this.#slotsUsed += this.#kind === "split" ? 1 : request.slots;
    }
    this.#staged = [];
  }

  /** Finds out how far a back-end got that is gone. */
  #settle(): void {
    const news = this.#side.shown().length - (this.#shown.length - this.#reaped);
    assert.ok(news === 0 || news === this.#staged.length, "a batch is shown in part");
    if (news > 0) this.#show();
    this.#staged = [];
    this.#early.clear();
    this.#inspect();
  }

  /**
   * A new back-end over the same memory, after some that did not get that far. `inside`: what the last
   * one was in the middle of.
   */
  #restart(crashes: readonly number[], inside: Act["act"] | null): void {
    const announced = this.#part[8] !== 0;
    const base = announced ? this.#side.baseAfterCrash(this.#seed) : this.#base();
    for (const crash of crashes) {
      if (crashing(crash, () => void this.#make(base))) continue;
      tally.crashes++;
      this.#inspect();
    }
    this.#queue = this.#make(base);
    const { replays } = this.#queue;
    // The request that was being taken or put back is one or the other.
    const difference = replays - this.#taken.length;
    if (inside === "take" && difference === 1) this.#taken.push(this.#waiting.shift()!);
    if (inside === "putBack" && difference === -1) this.#waiting.unshift(this.#taken.pop()!);
    assert.equal(replays, this.#taken.length, "requests that are replayed");
    this.#replay = [...this.#taken];
    this.#open = [];
    this.#last = null;
    assert.equal(this.#queue.base, this.#base(), "where a new back-end goes on");
  }

  #make(base: number): Queue {
    const inflight = { bytes: this.#part, queueSize: this.#side.size + this.#plan.extra };
    const { inOrder, eventIdx } = this.#plan;
    return this.#side.queue({ base, inflight, inOrder, eventIdx });
  }

  /** Where the ring stands when nothing is staged. */
  #base(): number {
    const count = (requests: readonly Request[]) =>
      requests.reduce((sum, { slots }) => sum + (this.#kind === "split" ? 1 : slots), 0);
    return this.#side.base(this.#slotsUsed + count(this.#taken), this.#slotsUsed);
  }

  /** The driver sees what was published and nothing else. */
  #inspect(): void {
    assert.deepEqual(this.#side.shown(), this.#shown.slice(this.#reaped), "what is shown");
  }
}
