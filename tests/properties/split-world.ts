/** Plays scenarios on a split queue. */
import assert from "node:assert/strict";
import type { Queue } from "../../core/queue.ts";
import { type Buffer, DriverRing, type QueueClass } from "../core/driver.ts";
import type { Arena } from "./arena.ts";
import { RingModel, wantsToHear } from "./model.ts";
import type { ChainPlan, Scenario } from "./scenario.ts";
import { type Publication, World } from "./world.ts";

interface Wish {
  readonly flags: number;
  readonly event: number;
}

export class SplitWorld extends World<Wish> {
  protected override readonly model: RingModel;
  protected override readonly ring: DriverRing;
  protected override readonly queue: Queue;
  readonly #notifyOnEmpty: boolean;
  #everCalled = false;
  /** What the device has written to its fields of the used ring. */
  #usedFlags = 0;
  #availEvent = 0;

  constructor(arena: Arena, Kind: QueueClass, scenario: Scenario, littleEndian = true) {
    const { size, base, used, eventIdx, inOrder, notifyOnEmpty, shuffle } = scenario;
    super(arena, eventIdx);
    this.#notifyOnEmpty = notifyOnEmpty;
    this.model = new RingModel(base, used, inOrder);
    this.ring = new DriverRing(arena.guest, { size, at: arena.rings, base, used, littleEndian });
    const { free } = this.ring;
    for (let i = free.length - 1, state = shuffle; i > 0; i--) {
      state = (state * 75 + 74) % 65537;
      const j = state % (i + 1);
      [free[i], free[j]] = [free[j]!, free[i]!];
    }
    this.queue = this.ring.queue({ eventIdx, inOrder, notifyOnEmpty, call: this.call }, Kind);
  }

  protected override get used(): number {
    return this.model.usedIndex;
  }

  protected override showsSince(before: number): boolean {
    return this.ring.shownUsed !== before;
  }

  protected override get wish(): Wish {
    return { flags: this.ring.availableFlags, event: this.ring.usedEvent };
  }

  protected override wants(filled: readonly number[], wish: Wish): boolean {
    return wantsToHear(filled, this.eventIdx, wish);
  }

  protected override wantsKick(filled: readonly number[]): boolean {
    const { usedFlags: flags, availEvent: event } = this.ring;
    return wantsToHear(filled, this.eventIdx, { flags, event });
  }

  protected override listen(ahead: number): void {
    this.ring.usedEvent = (this.ring.usedIndex + ahead) & 0xffff;
    if (!this.eventIdx) this.ring.availableFlags = ahead & 1;
  }

  protected override get room(): number {
    return this.ring.free.length;
  }

  protected override direct(plan: ChainPlan): number {
    return Math.min(plan.direct, plan.buffers.length);
  }

  protected override put(buffers: readonly Buffer[], direct: number, table: number) {
    const id = this.ring.chain(buffers, direct, table);
    const filled = [this.ring.availableIndex];
    this.model.waiting.push(id);
    this.ring.push(id);
    return { id, filled };
  }

  protected override get visible(): number {
    return this.model.waiting.length;
  }

  protected override get inFlight(): readonly number[] {
    return [...this.model.inFlight];
  }

  protected override takeFromModel(): number | null {
    return this.model.take();
  }

  protected override putBack(): void {
    const id = this.putLatestBack();
    if (id !== null) this.model.putBack(id);
  }

  protected override stray(which: number): number {
    return which % this.ring.size;
  }

  protected override suppressed(): void {
    if (!this.eventIdx) this.#usedFlags = 1;
  }

  protected override requestedKick(): void {
    if (this.eventIdx) this.#availEvent = this.model.availableIndex;
    else this.#usedFlags = 0;
  }

  protected override inspectCalls(batch: Publication): void {
    // Nobody knows what the driver has seen before this queue started: it is told once in any case.
    const first = this.eventIdx && !this.#everCalled;
    this.#everCalled = true;
    if (this.#notifyOnEmpty && batch.emptyBefore) {
      // Unless something came meanwhile.
      const told = this.model.waiting.length > 0 || batch.called === 1;
      assert.ok(told && batch.called <= 1, "the driver was not told that the ring is empty");
    } else if (first) assert.equal(batch.called, 1, "the driver was not called");
    else super.inspectCalls(batch);
  }

  protected override inspectRing(): void {
    const { usedIndex, availableIndex } = this.model;
    assert.equal(this.ring.shownUsed, usedIndex, "the used index");
    assert.equal(this.ring.usedFlags, this.#usedFlags, "used.flags");
    assert.equal(this.ring.availEvent, this.#availEvent, "avail_event");
    assert.equal(this.queue.base, availableIndex);
  }
}
