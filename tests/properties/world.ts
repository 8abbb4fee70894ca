/** Plays a scenario on a real queue in real guest memory, and holds it against a model of its ring. */
import assert from "node:assert/strict";
import type { HeldChain } from "../../core/chain.ts";
import type { Queue } from "../../core/queue.ts";
import type { Buffer } from "../core/driver.ts";
import type { Arena } from "./arena.ts";
import { interleaved } from "./interleave.ts";
import type { UsedElement } from "./model.ts";
import type { ChainPlan, DeviceAct, DriverAct, Interference, Step } from "./scenario.ts";

export interface Request {
  readonly buffers: readonly Buffer[];
  /** What the driver put into the readable buffers. */
  readonly sent: Uint8Array;
  /** What the device wrote, from the first writable byte on. */
  received: Uint8Array;
  held: HeldChain | null;
}

/** What the models of both kinds of rings have. A chain's id is its head, or its buffer id. */
export interface Model {
  /** Chains made available and not taken. */
  readonly waiting: readonly unknown[];
  /** All that the driver can see or saw. */
  readonly shown: readonly UsedElement[];
  complete(id: number, length: number): void;
  /** Shows what is completed. Returns the entries, or slots, that were filled. */
  publish(): number[];
}

/** What the driver's sides of both kinds of rings have. */
export interface Ring {
  /** Shows the device what was put into the ring. */
  show(): void;
  /** What the device shows and the driver has not taken. */
  shown(): UsedElement[];
  reap(): UsedElement[];
}

/** How a batch was called for. */
export interface Publication {
  /** Calls that the device made. */
  readonly called: number;
  /** Moments at which the driver could see the batch, and those at which it wanted a call. */
  readonly moments: number;
  readonly wanting: number;
  /** No chain was waiting when the batch was published. */
  readonly emptyBefore: boolean;
}

/** A ring of either kind. `Wish` is what its driver asks for. */
export abstract class World<Wish> {
  protected readonly arena: Arena;
  protected readonly eventIdx: boolean;
  protected abstract readonly model: Model;
  protected abstract readonly ring: Ring;
  protected abstract queue: Queue;
  protected readonly requests = new Map<number, Request>();
  /** Chains that can be put back, the latest one last: those taken since the last one completed of them. */
  protected readonly latest: number[] = [];
  /** Completions of the model that the driver has taken. */
  #reaped = 0;
  #calls = 0;
  protected readonly call = (): void => {
    this.#calls++;
  };
  /** A kick that the device has not seen, and whether it waits for one. */
  #kicked = false;
  #asleep = false;
  /** What the driver wanted while the device published, from the moment the batch was visible. */
  #wishes: Wish[] = [];
  #usedBefore = 0;
  #seed = 1;

  constructor(arena: Arena, eventIdx: boolean) {
    arena.reset();
    this.arena = arena;
    this.eventIdx = eventIdx;
  }

  /** Where the model uses next. */
  protected abstract get used(): number;
  /** Whether the ring shows what was used from `before` on. */
  protected abstract showsSince(before: number): boolean;
  protected abstract get wish(): Wish;
  protected abstract wants(filled: readonly number[], wish: Wish): boolean;
  /** Whether the device has asked for a kick for what was filled. */
  protected abstract wantsKick(filled: readonly number[]): boolean;
  /** Asks for a call `ahead` of the last completion taken, or for none. */
  protected abstract listen(ahead: number): void;
  /** Descriptors that are in no chain. */
  protected abstract get room(): number;
  /** Buffers of a chain that get descriptors of their own; the rest goes into a table. */
  protected abstract direct(plan: ChainPlan): number;
  /** Fills the ring with a chain, and the model. Returns its id and what was filled. */
  protected abstract put(
    buffers: readonly Buffer[],
    direct: number,
    table: number,
  ): { id: number; filled: readonly number[] };
  /** Chains that the model's device could take. */
  protected abstract get visible(): number;
  /** Chains that it has taken and not completed, oldest first. */
  protected abstract get inFlight(): readonly number[];
  protected abstract takeFromModel(): number | null;
  protected abstract putBack(): void;
  /** An id to be completed that may not be in flight. */
  protected abstract stray(which: number): number;
  /** The device has said that it wants no kicks, or one for the next chain. */
  protected abstract suppressed(): void;
  protected abstract requestedKick(): void;
  /** Whether the ring and the queue are where the model is. */
  protected abstract inspectRing(): void;

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
    while (this.visible > 0) this.#operate({ act: "take" }, []);
    assert.equal(this.queue.next(), false, "a chain that nobody offered");
    while (this.inFlight.length > 0) {
      this.#operate({ act: "complete", which: 7, written: 3 }, []);
    }
    this.#operate({ act: "publish" }, []);
    this.#drive({ act: "reap" });
    assert.equal(this.requests.size, 0, "a chain was lost");
    assert.equal(this.queue.inFlight, 0);
    this.arena.verify();
  }

  // What the driver does.

  #drive(act: DriverAct): void {
    if (act.act === "offer") this.#offer(act.chains);
    else if (act.act === "reap") this.#reap();
    else this.listen(act.ahead);
  }

  #offer(plans: readonly ChainPlan[]): void {
    const filled: number[] = [];
    for (const plan of plans) {
      const direct = this.direct(plan);
      const needed = direct + (direct < plan.buffers.length ? 1 : 0);
      if (needed > this.room) continue;
      const request = this.#prepare(plan);
      if (request === null) break;
      const bytes = (plan.buffers.length - direct) * 16;
      const table = this.arena.take(bytes, plan.tablePlace);
      if (table === null) break;
      const chain = this.put(request.buffers, direct, table);
      this.arena.keep(table, bytes);
      this.requests.set(chain.id, request);
      filled.push(...chain.filled);
    }
    this.ring.show();
    // As a driver decides after showing the chains, on what the device has asked for.
    if (this.wantsKick(filled)) this.#kicked = true;
    assert.ok(!this.#asleep || this.#kicked || filled.length === 0, "the device sleeps unkicked");
  }

  #prepare(plan: ChainPlan): Request | null {
    const buffers: Buffer[] = [];
    const parts: Uint8Array[] = [];
    for (const { length, writable, place } of plan.buffers) {
      const address = this.arena.take(length, place);
      if (address === null) return null;
      buffers.push({ address, length, writable });
      if (writable) continue;
      const bytes = this.#pattern(length);
      this.arena.write(address, bytes);
      parts.push(bytes);
    }
    return { buffers, sent: concat(parts), received: new Uint8Array(0), held: null };
  }

  #reap(): void {
    for (const element of this.ring.reap()) {
      assert.deepEqual(element, this.model.shown[this.#reaped++], "a used element is wrong");
      const request = this.requests.get(element.id)!;
      this.requests.delete(element.id);
      this.expectReceived(request);
    }
  }

  /** What the device wrote for a request stays in memory. */
  protected expectReceived({ buffers, received }: Request): void {
    this.arena.expect(writableOf(buffers), received);
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
        return this.putBack();
      case "publish":
        return this.#publish(run);
      case "suppress":
        this.queue.suppressKicks();
        this.suppressed();
        this.#asleep = false;
        return;
      case "requestKick":
        return this.#requestKick(run);
      case "complete":
        return this.#complete(act.which, act.written);
      case "completeTwice":
        return this.completeTwice(act.which);
    }
  }

  #take(run: <T>(body: () => T) => T): void {
    this.#asleep = false;
    const { visible } = this;
    const got = run(() => this.queue.next());
    // What the driver adds after the device has looked is for the next time.
    if (!got && visible === 0) return;
    const id = this.takeFromModel();
    assert.equal(got, id !== null, "next() tells of a chain");
    if (id === null) return;
    const { chain } = this.queue;
    const request = this.requests.get(id)!;
    assert.equal(chain.head, id, "chains come in order");
    this.latest.push(id);
    request.held = this.queue.hold();
    for (const view of [chain, request.held]) {
      const { sent } = request;
      assert.equal(view.readableBytes, sent.length);
      assert.equal(view.writableBytes, total(writableOf(request.buffers)));
      const copy = new Uint8Array(sent.length);
      assert.equal(view.read(copy), sent.length);
      assert.deepEqual(copy, sent, "the readable bytes");
    }
  }

  #complete(which: number, written: number): void {
    const { inFlight } = this;
    const id = inFlight[which % inFlight.length];
    if (id === undefined) return;
    const request = this.requests.get(id)!;
    const room = total(writableOf(request.buffers));
    request.received = this.#pattern(Math.min(written, room));
    assert.equal(request.held!.write(request.received), request.received.length);
    if (which % 2 === 0) request.held!.complete(request.received.length);
    else this.queue.complete(id, request.received.length);
    this.model.complete(id, request.received.length);
    this.latest.splice(0, this.latest.lastIndexOf(id) + 1);
  }

  /** Puts the latest chain back, and returns its id, when there is one. */
  protected putLatestBack(): number | null {
    const id = this.latest.pop();
    if (id === undefined) return null;
    if (this.queue.chain.head === id) this.queue.putBack();
    else this.queue.putBack(id);
    return id;
  }

  /** Completes a chain that is not in flight. */
  protected completeTwice(which: number): void {
    const id = this.stray(which);
    if (this.inFlight.includes(id)) return;
    assert.throws(() => this.queue.complete(id, 0), /not in flight/);
  }

  #publish(run: <T>(body: () => T) => T): void {
    const calls = this.#calls;
    this.#usedBefore = this.used;
    this.#wishes = [];
    const filled = this.model.publish();
    const emptyBefore = this.model.waiting.length === 0;
    run(() => this.queue.publish());
    this.#noteWishes();
    const called = this.#calls - calls;
    if (filled.length === 0) return assert.equal(called, 0, "a call for nothing");
    const moments = this.#wishes.length;
    assert.ok(moments > 0, "what was used was not published");
    const wanting = this.#wishes.filter((wish) => this.wants(filled, wish)).length;
    this.inspectCalls({ called, moments, wanting, emptyBefore });
  }

  protected inspectCalls({ called, moments, wanting }: Publication): void {
    if (wanting === moments) assert.equal(called, 1, "the driver was not called");
    else if (wanting === 0) assert.equal(called, 0, "the driver was called against its wish");
    else assert.ok(called <= 1);
  }

  /** Notes what the driver wants as soon as it could have seen what is used. */
  #noteWishes(): void {
    if (this.showsSince(this.#usedBefore)) this.#wishes.push(this.wish);
  }

  #requestKick(run: <T>(body: () => T) => T): void {
    this.#kicked = false;
    this.#asleep = false;
    const more = run(() => this.queue.requestKick());
    this.requestedKick();
    const waiting = this.model.waiting.length;
    if (more) assert.ok(waiting > 0, "requestKick() promises a chain");
    else assert.ok(waiting === 0 || this.#kicked, "a wake-up was lost");
    this.#asleep = !more;
  }

  // What must hold at any time.

  #inspect(): void {
    this.inspectRing();
    assert.equal(this.queue.inFlight, this.inFlight.length);
    if (this.#kicked && this.model.waiting.length > 0) this.#asleep = false;
    assert.equal(this.#inspectUsed(), this.model.shown.length, "what is shown");
  }

  /** Whatever is shown is complete. Returns how many completions were ever shown. */
  #inspectUsed(): number {
    let at = this.#reaped;
    for (const element of this.ring.shown()) {
      assert.deepEqual(element, this.model.shown[at++], "a used element");
    }
    return at;
  }

  #pattern(length: number): Uint8Array {
    const seed = this.#seed++;
    return Uint8Array.from({ length }, (_, i) => seed * 31 + i * 7 + 1);
  }
}

const total = (buffers: readonly Buffer[]) => buffers.reduce((sum, { length }) => sum + length, 0);

const writableOf = (buffers: readonly Buffer[]) => buffers.filter((b) => b.writable);

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
