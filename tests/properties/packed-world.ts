/** Plays scenarios on a packed queue. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { inflightQueueBytes } from "../../core/inflight.ts";
import type { PackedQueue } from "../../core/packed.ts";
import type { Buffer } from "../core/driver.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import type { Arena } from "./arena.ts";
import { PackedModel, type Wish, wantsPacked } from "./packed-model.ts";
import { type ChainPlan, type Scenario, step } from "./scenario.ts";
import { World } from "./world.ts";

const ENABLE = 0;
const DISABLE = 1;
const DESC = 2;

export interface PackedScenario extends Pick<Scenario, "size" | "eventIdx" | "inOrder" | "steps"> {
  /** Where in the first two laps both sides begin, in slots. */
  readonly start: number;
  /** The back-end may end without warning: the next one goes on from the in-flight region. */
  readonly crashes: boolean;
  /** Spreads the buffer ids. */
  readonly ids: number;
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

class PackedWorld extends World<Wish> {
  protected override readonly model: PackedModel;
  protected override readonly ring: PackedDriver;
  protected override queue: PackedQueue;
  readonly #start: (base?: number) => PackedQueue;
  readonly #crashes: boolean;
  /** What the device has written to its event area. */
  #deviceWish: Wish = { flags: ENABLE, slot: 0, wrap: 0 };
  #nextId: number;

  constructor(arena: Arena, Queue: typeof PackedQueue, scenario: PackedScenario) {
    const { size, start, eventIdx, inOrder, crashes, ids } = scenario;
    super(arena, eventIdx);
    this.#nextId = ids;
    this.model = new PackedModel(start, inOrder);
    this.ring = new PackedDriver(arena.guest, { size, at: arena.rings, start });
    this.#crashes = crashes;
    const bytes = new Uint8Array(new ArrayBuffer(inflightQueueBytes(size, true)));
    const inflight = crashes ? { bytes, queueSize: size } : null;
    const options = { eventIdx, inOrder, inflight, call: this.call };
    this.#start = (base) =>
      this.ring.queue(base === undefined ? options : { ...options, base }, Queue);
    this.queue = this.#start();
  }

  protected override get used(): number {
    return this.model.used;
  }

  protected override showsSince(before: number): boolean {
    return this.model.used !== before && this.ring.isUsed(before);
  }

  protected override get wish(): Wish {
    return this.ring.wish;
  }

  protected override wants(filled: readonly number[], wish: Wish): boolean {
    return wantsPacked(filled, this.ring.size, this.eventIdx, wish);
  }

  protected override wantsKick(filled: readonly number[]): boolean {
    return this.wants(filled, this.ring.deviceWish);
  }

  protected override listen(ahead: number): void {
    // Somewhere in the two laps that two bits can tell apart.
    const slot = Math.max(0, this.ring.used + (ahead % (2 * this.ring.size)));
    this.ring.listen(ahead % 4 === 3 ? DISABLE : ahead % 7 === 1 ? ENABLE : DESC, slot);
  }

  protected override get room(): number {
    return this.ring.free;
  }

  /** A packed ring has no chains of both (virtio 1.3, 2.8.19). */
  protected override direct({ direct, buffers }: ChainPlan): number {
    return direct < buffers.length ? 0 : buffers.length;
  }

  protected override put(buffers: readonly Buffer[], direct: number, table: number) {
    const id = this.#freshId();
    const filled = this.ring.chain(id, buffers, direct === 0 ? table : null);
    this.model.waiting.push({ id, slots: filled.length });
    return { id, filled };
  }

  /** Any id that is not in flight: the driver's choice. */
  #freshId(): number {
    do this.#nextId = (this.#nextId * 5 + 12345) % 65536;
    while (this.ring.has(this.#nextId));
    return this.#nextId;
  }

  protected override get visible(): number {
    return this.model.waiting.length + this.model.replay.length;
  }

  protected override get inFlight(): readonly number[] {
    return this.model.inFlight.map(({ id }) => id);
  }

  protected override takeFromModel(): number | null {
    return this.model.take()?.id ?? null;
  }

  /** Puts the latest chain back, or stops the queue and goes on with another one. */
  protected override putBack(): void {
    const { inFlight, early, used, usedAhead } = this.model;
    const idle = inFlight.length + early.size + this.model.replay.length === 0;
    if (idle && used === usedAhead) {
      this.queue = this.#start(this.queue.base);
    }
    const last = this.model.inFlight.at(-1)?.id;
    const id = this.putLatestBack();
    if (id === null) return;
    assert.equal(id, last);
    this.model.putBack();
  }

  protected override stray(which: number): number {
    const early = [...this.model.early.keys()];
    return which % 2 === 0 && early.length > 0 ? early[0]! : which;
  }

  /** Completes a chain that is not in flight, or ends without warning. */
  protected override completeTwice(which: number): void {
    if (this.#crashes && which % 3 === 0) this.#crash();
    else super.completeTwice(which);
  }

  #crash(): void {
    // What was written for requests that are now done again stays written.
    for (const request of this.requests.values()) this.expectReceived(request);
    this.model.crash();
    this.latest.length = 0;
    this.queue = this.#start(0x80008000);
    assert.equal(this.queue.replays, this.model.replay.length, "what is done again");
  }

  protected override suppressed(): void {
    this.#deviceWish = { ...this.#deviceWish, flags: DISABLE };
  }

  protected override requestedKick(): void {
    const { available } = this.model;
    this.#deviceWish = this.eventIdx
      ? { flags: DESC, slot: available % this.ring.size, wrap: this.ring.wrap(available) }
      : { flags: ENABLE, slot: 0, wrap: 0 };
  }

  protected override inspectRing(): void {
    const { available, usedAhead } = this.model;
    const { flags, slot, wrap } = this.ring.deviceWish;
    const wish = this.#deviceWish;
    assert.equal(flags, wish.flags, "the device's event flags");
    if (flags === DESC) assert.deepEqual({ slot, wrap }, { slot: wish.slot, wrap: wish.wrap });
    assert.equal(this.queue.base, this.ring.base(available, usedAhead), "the base");
  }
}
