/** Plays a scenario on a real packed queue in real guest memory, and holds it against the model. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { HeldChain } from "../../core/chain.ts";
import { inflightQueueBytes } from "../../core/inflight.ts";
import type { PackedQueue } from "../../core/packed.ts";
import type { Buffer } from "../core/driver.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import type { Arena } from "./arena.ts";
import { interleaved } from "./interleave.ts";
import { PackedModel, type Wish, wantsPacked } from "./packed-model.ts";
import {
  type ChainPlan,
  type DeviceAct,
  type DriverAct,
  type Interference,
  type Step,
  step,
} from "./scenario.ts";
import { concat, total, writableStream } from "./world.ts";

const ENABLE = 0;
const DISABLE = 1;
const DESC = 2;

export interface PackedScenario {
  readonly size: number;
  /** Where in the first two laps both sides begin, in slots. */
  readonly start: number;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  /** The back-end may end without warning: the next one goes on from the in-flight region. */
  readonly crashes: boolean;
  /** Spreads the buffer ids. */
  readonly ids: number;
  readonly steps: readonly Step[];
}

const size = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 12 }) },
  { weight: 1, arbitrary: fc.integer({ min: 13, max: 1000 }) },
);

export const packedScenario: fc.Arbitrary<PackedScenario> = size.chain((size) =>
  fc.record({
    size: fc.constant(size),
    start: fc.nat({ max: 2 * size - 1 }),
    eventIdx: fc.boolean(),
    inOrder: fc.boolean(),
    crashes: fc.boolean(),
    ids: fc.nat({ max: 0xffff }),
    steps: fc.array(step, { minLength: 1, maxLength: 80, size: "max" }),
  }),
);

/** Behaves as the model in every scenario. */
export function behavesAsPackedModel(arena: Arena, Queue: typeof PackedQueue) {
  return fc.property(packedScenario, (plan) => {
    new PackedWorld(arena, Queue, plan).play(plan.steps);
  });
}

interface Request {
  readonly buffers: readonly Buffer[];
  /** What the driver put into the readable buffers. */
  readonly sent: Uint8Array;
  /** What the device wrote, from the first writable byte on. */
  received: Uint8Array;
  held: HeldChain | null;
}

class PackedWorld {
  readonly #arena: Arena;
  readonly #model: PackedModel;
  readonly #ring: PackedDriver;
  #queue: PackedQueue;
  readonly #start: (base?: number) => PackedQueue;
  readonly #eventIdx: boolean;
  readonly #crashes: boolean;
  readonly #requests = new Map<number, Request>();
  /** Completions of the model that the driver has taken. */
  #reaped = 0;
  #calls = 0;
  /** A kick that the device has not seen, and whether it waits for one. */
  #kicked = false;
  #asleep = false;
  /** What the driver wanted while the device published, from the moment the slots were visible. */
  #wishes: Wish[] = [];
  #usedBefore = 0;
  /** What the device has written to its event area. */
  #deviceWish: Wish = { flags: ENABLE, slot: 0, wrap: 0 };
  /** Chains that can be put back, the latest one last. */
  readonly #latest: number[] = [];
  #seed = 1;
  #nextId: number;

  constructor(arena: Arena, Queue: typeof PackedQueue, scenario: PackedScenario) {
    const { size, start, eventIdx, inOrder, crashes, ids } = scenario;
    arena.reset();
    this.#arena = arena;
    this.#eventIdx = eventIdx;
    this.#nextId = ids;
    this.#model = new PackedModel(start, inOrder);
    this.#ring = new PackedDriver(arena.guest, { size, at: arena.rings, start });
    const call = () => {
      this.#calls++;
    };
    this.#crashes = crashes;
    const bytes = new Uint8Array(new ArrayBuffer(inflightQueueBytes(size, true)));
    const inflight = crashes ? { bytes, queueSize: size } : null;
    const options = { eventIdx, inOrder, inflight, call };
    this.#start = (base) =>
      this.#ring.queue(base === undefined ? options : { ...options, base }, Queue);
    this.#queue = this.#start();
  }

  play(steps: readonly Step[]): void {
    for (const { device, driver, during = [] } of steps) {
      if (driver !== undefined) this.#drive(driver);
      if (device !== undefined) this.#operate(device, during);
      this.#inspect();
    }
    this.#finish();
  }

  /** Everything that is left is handled, and nothing else in memory has changed. */
  #finish(): void {
    while (this.#model.waiting.length + this.#model.replay.length > 0) {
      this.#operate({ act: "take" }, []);
    }
    assert.equal(this.#queue.next(), false, "a chain that nobody offered");
    while (this.#model.inFlight.length > 0) {
      this.#operate({ act: "complete", which: 7, written: 3 }, []);
    }
    this.#operate({ act: "publish" }, []);
    this.#drive({ act: "reap" });
    assert.equal(this.#requests.size, 0, "a chain was lost");
    assert.equal(this.#queue.inFlight, 0);
    this.#arena.verify();
  }

  // What the driver does.

  #drive(act: DriverAct): void {
    if (act.act === "offer") this.#offer(act.chains);
    else if (act.act === "reap") this.#reap();
    else {
      // Somewhere in the two laps that two bits can tell apart.
      const slot = Math.max(0, this.#ring.used + (act.ahead % (2 * this.#ring.size)));
      this.#ring.listen(act.ahead % 4 === 3 ? DISABLE : act.ahead % 7 === 1 ? ENABLE : DESC, slot);
    }
  }

  #offer(plans: readonly ChainPlan[]): void {
    const filled: number[] = [];
    for (const plan of plans) {
      const indirect = plan.direct < plan.buffers.length;
      if ((indirect ? 1 : plan.buffers.length) > this.#ring.free) continue;
      const request = this.#prepare(plan);
      if (request === null) break;
      const bytes = indirect ? plan.buffers.length * 16 : 0;
      const table = this.#arena.take(bytes, plan.tablePlace);
      if (table === null) break;
      const id = this.#freshId();
      const slots = this.#ring.chain(id, request.buffers, indirect ? table : null);
      this.#arena.keep(table, bytes);
      this.#requests.set(id, request);
      this.#model.waiting.push({ id, slots: slots.length });
      filled.push(...slots);
    }
    this.#ring.show();
    // As a driver decides after showing its slots, on what the device has asked for.
    const { size, deviceWish } = this.#ring;
    if (wantsPacked(filled, size, this.#eventIdx, deviceWish)) this.#kicked = true;
    assert.ok(!this.#asleep || this.#kicked || filled.length === 0, "the device sleeps unkicked");
  }

  /** Any id that is not in flight: the driver's choice. */
  #freshId(): number {
    do this.#nextId = (this.#nextId * 5 + 12345) % 65536;
    while (this.#ring.has(this.#nextId));
    return this.#nextId;
  }

  #prepare(plan: ChainPlan): Request | null {
    const buffers: Buffer[] = [];
    const parts: Uint8Array[] = [];
    for (const { length, writable, place } of plan.buffers) {
      const address = this.#arena.take(length, place);
      if (address === null) return null;
      buffers.push({ address, length, writable });
      if (writable) continue;
      const bytes = this.#pattern(length);
      this.#arena.write(address, bytes);
      parts.push(bytes);
    }
    return { buffers, sent: concat(parts), received: new Uint8Array(0), held: null };
  }

  #reap(): void {
    for (const element of this.#ring.reap()) {
      assert.deepEqual(element, this.#model.shown[this.#reaped++], "a used descriptor is wrong");
      const request = this.#requests.get(element.id)!;
      this.#requests.delete(element.id);
      this.#arena.expect(writableStream(request.buffers), request.received);
    }
  }

  // What the device does.

  #operate(act: DeviceAct, during: readonly Interference[]): void {
    const point = (at: number) => {
      this.#noteWishes();
      for (const { point, driver } of during) if (point === at) this.#drive(driver);
      this.#noteWishes();
      this.#inspectUsed();
    };
    const run = <T>(body: () => T): T => interleaved(point, body);
    switch (act.act) {
      case "take":
        return this.#take(run);
      case "putBack":
        return this.#putBack();
      case "publish":
        return this.#publish(run);
      case "suppress":
        this.#queue.suppressKicks();
        this.#deviceWish = { ...this.#deviceWish, flags: DISABLE };
        this.#asleep = false;
        return;
      case "requestKick":
        return this.#requestKick(run);
      case "complete":
        return this.#complete(act.which, act.written);
      case "completeTwice":
        return this.#completeTwice(act.which);
    }
  }

  #take(run: <T>(body: () => T) => T): void {
    this.#asleep = false;
    const visible = this.#model.waiting.length + this.#model.replay.length;
    const got = run(() => this.#queue.next());
    // What the driver adds after the device has looked is for the next time.
    if (!got && visible === 0) return;
    const taken = this.#model.take();
    assert.equal(got, taken !== null, "next() tells of a chain");
    if (taken === null) return;
    const { chain } = this.#queue;
    const request = this.#requests.get(taken.id)!;
    assert.equal(chain.head, taken.id, "chains come in order");
    this.#latest.push(taken.id);
    request.held = this.#queue.hold();
    for (const view of [chain, request.held]) {
      const { sent } = request;
      assert.equal(view.readableBytes, sent.length);
      assert.equal(view.writableBytes, total(request.buffers.filter((b) => b.writable)));
      const copy = new Uint8Array(sent.length);
      assert.equal(view.read(copy), sent.length);
      assert.deepEqual(copy, sent, "the readable bytes");
    }
  }

  /** Puts the latest chain back, or stops the queue and goes on with another one. */
  #putBack(): void {
    const { inFlight, early, used, usedAhead } = this.#model;
    const idle = inFlight.length + early.size + this.#model.replay.length === 0;
    if (idle && used === usedAhead) {
      this.#queue = this.#start(this.#queue.base);
    }
    const id = this.#latest.pop();
    if (id === undefined) return;
    assert.equal(this.#model.inFlight.at(-1)?.id, id);
    if (this.#queue.chain.head === id) this.#queue.putBack();
    else this.#queue.putBack(id);
    this.#model.putBack();
  }

  #complete(which: number, written: number): void {
    const { inFlight } = this.#model;
    const id = inFlight[which % inFlight.length]?.id;
    if (id === undefined) return;
    const request = this.#requests.get(id)!;
    const room = total(request.buffers.filter((b) => b.writable));
    request.received = this.#pattern(Math.min(written, room));
    assert.equal(request.held!.write(request.received), request.received.length);
    if (which % 2 === 0) request.held!.complete(request.received.length);
    else this.#queue.complete(id, request.received.length);
    this.#model.complete(id, request.received.length);
    this.#latest.splice(0, this.#latest.lastIndexOf(id) + 1);
  }

  /** Completes a chain that is not in flight, or ends without warning. */
  #completeTwice(which: number): void {
    if (this.#crashes && which % 3 === 0) return this.#crash();
    const early = [...this.#model.early.keys()];
    const id = which % 2 === 0 && early.length > 0 ? early[0]! : which;
    if (this.#model.inFlight.some((chain) => chain.id === id)) return;
    assert.throws(() => this.#queue.complete(id, 0), /not in flight/);
  }

  #crash(): void {
    // What was written for requests that are now done again stays written.
    for (const { buffers, received } of this.#requests.values()) {
      this.#arena.expect(writableStream(buffers), received);
    }
    this.#model.crash();
    this.#latest.length = 0;
    this.#queue = this.#start(0x80008000);
    assert.equal(this.#queue.replays, this.#model.replay.length, "what is done again");
  }

  #publish(run: <T>(body: () => T) => T): void {
    const calls = this.#calls;
    this.#usedBefore = this.#model.used;
    this.#wishes = [];
    const filled = this.#model.publish();
    run(() => this.#queue.publish());
    this.#noteWishes();
    const called = this.#calls - calls;
    if (filled.length === 0) return assert.equal(called, 0, "a call for nothing");
    const { length } = this.#wishes;
    assert.ok(length > 0, "the used descriptors were not published");
    const { size } = this.#ring;
    const wanting = this.#wishes.filter((wish) =>
      wantsPacked(filled, size, this.#eventIdx, wish),
    ).length;
    if (wanting === length) assert.equal(called, 1, "the driver was not called");
    else if (wanting === 0) assert.equal(called, 0, "the driver was called against its wish");
    else assert.ok(called <= 1);
  }

  /** Notes what the driver wants as soon as it could have seen the new used descriptors. */
  #noteWishes(): void {
    if (this.#model.used === this.#usedBefore || !this.#ring.isUsed(this.#usedBefore)) return;
    this.#wishes.push(this.#ring.wish);
  }

  #requestKick(run: <T>(body: () => T) => T): void {
    this.#kicked = false;
    this.#asleep = false;
    const more = run(() => this.#queue.requestKick());
    const { available } = this.#model;
    this.#deviceWish = this.#eventIdx
      ? { flags: DESC, slot: available % this.#ring.size, wrap: this.#ring.wrap(available) }
      : { flags: ENABLE, slot: 0, wrap: 0 };
    const waiting = this.#model.waiting.length;
    if (more) assert.ok(waiting > 0, "requestKick() promises a chain");
    else assert.ok(waiting === 0 || this.#kicked, "a wake-up was lost");
    this.#asleep = !more;
  }

  // What must hold at any time.

  #inspect(): void {
    const { inFlight, waiting, available, usedAhead } = this.#model;
    const { flags, slot, wrap } = this.#ring.deviceWish;
    const wish = this.#deviceWish;
    assert.equal(flags, wish.flags, "the device's event flags");
    if (flags === DESC) assert.deepEqual({ slot, wrap }, { slot: wish.slot, wrap: wish.wrap });
    assert.equal(this.#queue.inFlight, inFlight.length);
    assert.equal(this.#queue.base, this.#ring.base(available, usedAhead), "the base");
    if (this.#kicked && waiting.length > 0) this.#asleep = false;
    this.#inspectUsed();
    const { length } = this.#ring.shown();
    assert.equal(this.#reaped + length, this.#model.shown.length, "what is shown");
  }

  /** Whatever is shown is complete. */
  #inspectUsed(): void {
    let at = this.#reaped;
    for (const element of this.#ring.shown()) {
      assert.deepEqual(element, this.#model.shown[at++], "a used descriptor");
    }
  }

  #pattern(length: number): Uint8Array {
    const seed = this.#seed++;
    return Uint8Array.from({ length }, (_, i) => seed * 31 + i * 7 + 1);
  }
}
