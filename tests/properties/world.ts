/** Plays a scenario on a real queue in real guest memory, and holds it against the model. */
import assert from "node:assert/strict";
import type { HeldChain } from "../../core/chain.ts";
import type { Queue } from "../../core/queue.ts";
import { type Buffer, DriverRing, type QueueClass } from "../core/driver.ts";
import type { Arena } from "./arena.ts";
import { interleaved } from "./interleave.ts";
import { RingModel, wantsToHear } from "./model.ts";
import type { ChainPlan, DeviceAct, DriverAct, Interference, Scenario } from "./scenario.ts";

interface Request {
  readonly buffers: readonly Buffer[];
  /** What the driver put into the readable buffers. */
  readonly sent: Uint8Array;
  /** What the device wrote, from the first writable byte on. */
  received: Uint8Array;
  held: HeldChain | null;
}

export class World {
  readonly #arena: Arena;
  readonly #model: RingModel;
  readonly #ring: DriverRing;
  readonly #queue: Queue;
  readonly #eventIdx: boolean;
  readonly #notifyOnEmpty: boolean;
  readonly #requests = new Map<number, Request>();
  /** Completions of the model that the driver has taken. */
  #reaped = 0;
  #calls = 0;
  /** A kick that the device has not seen, and whether it waits for one. */
  #kicked = false;
  #asleep = false;
  /** What the driver wanted while the device published, from the moment the index was visible. */
  #wishes: { flags: number; event: number }[] = [];
  #usedBefore = 0;
  #everCalled = false;
  /** What the device has written to its fields of the used ring. */
  #usedFlags = 0;
  #availEvent = 0;
  /** Chains that can be put back, the latest one last. */
  readonly #latest: number[] = [];
  #seed = 1;

  constructor(arena: Arena, Kind: QueueClass, scenario: Scenario, littleEndian = true) {
    const { size, base, used, eventIdx, inOrder, notifyOnEmpty, shuffle } = scenario;
    arena.reset();
    this.#arena = arena;
    this.#eventIdx = eventIdx;
    this.#notifyOnEmpty = notifyOnEmpty;
    this.#model = new RingModel(base, used, inOrder);
    this.#ring = new DriverRing(arena.guest, { size, at: arena.rings, base, used, littleEndian });
    const { free } = this.#ring;
    for (let i = free.length - 1, state = shuffle; i > 0; i--) {
      state = (state * 75 + 74) % 65537;
      const j = state % (i + 1);
      [free[i], free[j]] = [free[j]!, free[i]!];
    }
    const call = () => {
      this.#calls++;
    };
    this.#queue = this.#ring.queue({ eventIdx, inOrder, notifyOnEmpty, call }, Kind);
  }

  play(steps: Scenario["steps"]): void {
    for (const { device, driver, during = [] } of steps) {
      if (driver !== undefined) this.#drive(driver);
      if (device !== undefined) this.#operate(device, during);
      this.#inspect();
    }
    this.#finish();
  }

  /** Everything that is left is handled, and nothing else in memory has changed. */
  #finish(): void {
    while (this.#model.waiting.length > 0) this.#operate({ act: "take" }, []);
    assert.equal(this.#queue.next(), false, "a chain that nobody offered");
    while (this.#model.inFlight.size > 0) {
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
      this.#ring.usedEvent = (this.#ring.usedIndex + act.ahead) & 0xffff;
      if (!this.#eventIdx) this.#ring.availableFlags = act.ahead & 1;
    }
  }

  #offer(plans: readonly ChainPlan[]): void {
    const filled: number[] = [];
    for (const plan of plans) {
      const direct = Math.min(plan.direct, plan.buffers.length);
      const needed = direct + (direct < plan.buffers.length ? 1 : 0);
      if (needed > this.#ring.free.length) continue;
      const request = this.#prepare(plan);
      if (request === null) break;
      const table = this.#arena.take((plan.buffers.length - direct) * 16, plan.tablePlace);
      if (table === null) break;
      const head = this.#ring.chain(request.buffers, direct, table);
      this.#arena.keep(table, (plan.buffers.length - direct) * 16);
      this.#requests.set(head, request);
      this.#model.waiting.push(head);
      filled.push(this.#ring.availableIndex);
      this.#ring.push(head);
    }
    this.#ring.show();
    // As a driver decides after showing the index, on what the device has asked for.
    const { usedFlags: flags, availEvent: event } = this.#ring;
    if (wantsToHear(filled, this.#eventIdx, { flags, event })) this.#kicked = true;
    assert.ok(!this.#asleep || this.#kicked || filled.length === 0, "the device sleeps unkicked");
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
      assert.deepEqual(element, this.#model.shown[this.#reaped++], "a used element is wrong");
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
        if (!this.#eventIdx) this.#usedFlags = 1;
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
    const visible = this.#model.waiting.length;
    const got = run(() => this.#queue.next());
    // What the driver adds after the device has looked is for the next time.
    if (!got && visible === 0) return;
    const head = this.#model.take();
    assert.equal(got, head !== null, "next() tells of a chain");
    if (head === null) return;
    const { chain } = this.#queue;
    const request = this.#requests.get(head)!;
    assert.equal(chain.head, head, "chains come in order");
    this.#latest.push(head);
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

  #putBack(): void {
    const head = this.#latest.pop();
    if (head === undefined) return;
    if (this.#queue.chain.head === head) this.#queue.putBack();
    else this.#queue.putBack(head);
    this.#model.putBack(head);
  }

  #complete(which: number, written: number): void {
    const heads = [...this.#model.inFlight];
    const head = heads[which % heads.length];
    if (head === undefined) return;
    const request = this.#requests.get(head)!;
    const room = total(request.buffers.filter((b) => b.writable));
    request.received = this.#pattern(Math.min(written, room));
    assert.equal(request.held!.write(request.received), request.received.length);
    if (which % 2 === 0) request.held!.complete(request.received.length);
    else this.#queue.complete(head, request.received.length);
    this.#model.complete(head, request.received.length);
    this.#latest.splice(0, this.#latest.lastIndexOf(head) + 1);
  }

  #completeTwice(which: number): void {
    const head = which % this.#ring.size;
    if (this.#model.inFlight.has(head)) return;
    assert.throws(() => this.#queue.complete(head, 0), /not in flight/);
  }

  #publish(run: <T>(body: () => T) => T): void {
    const calls = this.#calls;
    this.#usedBefore = this.#ring.shownUsed;
    this.#wishes = [];
    const filled = this.#model.publish();
    const emptyBefore = this.#model.waiting.length === 0;
    run(() => this.#queue.publish());
    this.#noteWishes();
    const called = this.#calls - calls;
    if (filled.length === 0) return assert.equal(called, 0, "a call for nothing");
    const { length } = this.#wishes;
    assert.ok(length > 0, "the used index was not published");
    const wanting = this.#wishes.filter((wish) => wantsToHear(filled, this.#eventIdx, wish)).length;
    // Nobody knows what the driver has seen before this queue started: it is told once in any case.
    const first = this.#eventIdx && !this.#everCalled;
    this.#everCalled = true;
    if (this.#notifyOnEmpty && emptyBefore) {
      // Unless something came meanwhile.
      const told = this.#model.waiting.length > 0 || called === 1;
      return assert.ok(told && called <= 1, "the driver was not told that the ring is empty");
    }
    if (first || wanting === length) assert.equal(called, 1, "the driver was not called");
    else if (wanting === 0) assert.equal(called, 0, "the driver was called against its wish");
    else assert.ok(called <= 1);
  }

  /** Notes what the driver wants as soon as it could have seen the new index. */
  #noteWishes(): void {
    if (this.#ring.shownUsed === this.#usedBefore) return;
    this.#wishes.push({ flags: this.#ring.availableFlags, event: this.#ring.usedEvent });
  }

  #requestKick(run: <T>(body: () => T) => T): void {
    this.#kicked = false;
    this.#asleep = false;
    const more = run(() => this.#queue.requestKick());
    if (this.#eventIdx) this.#availEvent = this.#model.availableIndex;
    else this.#usedFlags = 0;
    const waiting = this.#model.waiting.length;
    if (more) assert.ok(waiting > 0, "requestKick() promises a chain");
    else assert.ok(waiting === 0 || this.#kicked, "a wake-up was lost");
    this.#asleep = !more;
  }

  // What must hold at any time.

  #inspect(): void {
    const { usedIndex, inFlight, waiting, availableIndex } = this.#model;
    assert.equal(this.#ring.shownUsed, usedIndex, "the used index");
    assert.equal(this.#ring.usedFlags, this.#usedFlags, "used.flags");
    assert.equal(this.#ring.availEvent, this.#availEvent, "avail_event");
    assert.equal(this.#queue.inFlight, inFlight.size);
    assert.equal(this.#queue.base, availableIndex);
    if (this.#kicked && waiting.length > 0) this.#asleep = false;
    this.#inspectUsed();
  }

  /** Whatever the index covers is complete. */
  #inspectUsed(): void {
    let at = this.#reaped;
    for (let i = this.#ring.usedIndex; i !== this.#ring.shownUsed; i = (i + 1) & 0xffff) {
      assert.deepEqual(this.#ring.usedElement(i), this.#model.shown[at++], "a used element");
    }
  }

  #pattern(length: number): Uint8Array {
    const seed = this.#seed++;
    return Uint8Array.from({ length }, (_, i) => seed * 31 + i * 7 + 1);
  }
}

export const total = (buffers: readonly Buffer[]) =>
  buffers.reduce((sum, { length }) => sum + length, 0);

export const writableStream = (buffers: readonly Buffer[]) => buffers.filter((b) => b.writable);

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
