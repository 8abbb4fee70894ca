/**
 * Events on their way to the guest, in packets that SYN_REPORT ends.
 *
 * A ring has few descriptors (QEMU's has 4), so that a packet may need many refills. What waits is
 * bounded: the oldest packets go, whole, and never one that has begun to travel. The guest then gets
 * SYN_DROPPED, a packet that brings its idea of the device up to date, and what was kept. Drivers
 * follow single events and cannot ask for the state: without that packet a key would stay down.
 */
import { DeviceState } from "./state.ts";
import { EventType, Syn } from "./wire.ts";

/** Events that may wait. A power of two. */
const CAPACITY = 4096;
const MASK = CAPACITY - 1;

export class Backlog {
  /** The event that `next` took. */
  type = 0;
  code = 0;
  value = 0;
  /** Packets given up so far. */
  dropped = 0;

  readonly #types = new Uint16Array(CAPACITY);
  readonly #codes = new Uint16Array(CAPACITY);
  readonly #values = new Int32Array(CAPACITY);
  /** Counts of events: those that left the ring, those of complete packets, and all that came. */
  #head = 0;
  #complete = 0;
  #tail = 0;
  /** Events that go before those in the ring, three numbers each, and how many of the numbers went. */
  #ahead: number[] = [];
  #aheadTaken = 0;
  /** The packet at the head has begun to travel. */
  #begun = false;
  /** The packet being pushed has become too long, and goes as a whole. */
  #skipping = false;
  /** The guest has to be brought from `#told` to `#front` before it gets more. */
  #behind = false;
  /** The state after all that the guest got, and after all that has left the ring. */
  readonly #told: DeviceState;
  readonly #front: DeviceState;

  /** `slots`: contacts that the device tells apart. */
  constructor(slots = 0) {
    this.#told = new DeviceState(slots);
    this.#front = new DeviceState(slots);
  }

  /** Events that wait, those of an unfinished packet included. */
  get length(): number {
    return this.#tail - this.#head + (this.#ahead.length - this.#aheadTaken) / 3;
  }

  /** True when `next` has something. */
  get ready(): boolean {
    if (this.#aheadTaken < this.#ahead.length || this.#head < this.#complete) return true;
    return this.#behind && !this.#skipping;
  }

  /** Appends an event. Returns true when it ends a packet. */
  push(type: number, code: number, value: number): boolean {
    const ends = type === EventType.SYN && code === Syn.REPORT;
    if (!this.#skipping && this.#tail - this.#head === CAPACITY) this.#makeRoom();
    if (this.#skipping) {
      this.#front.apply(type, code, value);
      this.#skipping = !ends;
      return ends;
    }
    const at = this.#tail++ & MASK;
    this.#types[at] = type;
    this.#codes[at] = code;
    this.#values[at] = value;
    if (ends) this.#complete = this.#tail;
    return ends;
  }

  /** Takes the next event of a complete packet into `type`, `code` and `value`. False without one. */
  next(): boolean {
    if (this.#aheadTaken === this.#ahead.length && this.#behind && !this.#begun) this.#catchUp();
    if (this.#aheadTaken < this.#ahead.length) {
      this.type = this.#ahead[this.#aheadTaken]!;
      this.code = this.#ahead[this.#aheadTaken + 1]!;
      this.value = this.#ahead[this.#aheadTaken + 2]!;
      this.#aheadTaken += 3;
    } else {
      if (this.#head === this.#complete) return false;
      const at = this.#head++ & MASK;
      this.type = this.#types[at]!;
      this.code = this.#codes[at]!;
      this.value = this.#values[at]!;
      this.#begun = !this.#ends(at);
      this.#front.apply(this.type, this.code, this.value);
    }
    this.#told.apply(this.type, this.code, this.value);
    return true;
  }

  /** Follows an event that nobody is there for. */
  skip(type: number, code: number, value: number): void {
    this.#front.apply(type, code, value);
  }

  /** Forgets what waits, for a driver that comes later and knows nothing. */
  clear(): void {
    while (this.#head < this.#tail) this.#leave();
    this.#complete = this.#head;
    this.#ahead = [];
    this.#aheadTaken = 0;
    this.#begun = this.#skipping = this.#behind = false;
    this.#told.clear();
  }

  #ends(at: number): boolean {
    return this.#types[at] === EventType.SYN && this.#codes[at] === Syn.REPORT;
  }

  /** Gives up the oldest packet that has not begun to travel. */
  #makeRoom(): void {
    if (this.#begun) {
      this.#ahead.splice(0, this.#aheadTaken);
      this.#aheadTaken = 0;
      while (this.#begun) {
        const at = this.#leave();
        this.#ahead.push(this.#types[at]!, this.#codes[at]!, this.#values[at]!);
        this.#begun = !this.#ends(at);
      }
      return;
    }
    this.dropped++;
    this.#behind = true;
    // What is left is one packet, and not all of it: the rest has to go with it.
    if (this.#complete === this.#head) {
      while (this.#head < this.#tail) this.#leave();
      this.#complete = this.#head;
      this.#skipping = true;
      return;
    }
    while (!this.#ends(this.#leave()));
  }

  /** Takes the event at the head out of the ring. Returns its place. */
  #leave(): number {
    const at = this.#head++ & MASK;
    this.#front.apply(this.#types[at]!, this.#codes[at]!, this.#values[at]!);
    return at;
  }

  /** Puts what the guest missed ahead of the next packet. */
  #catchUp(): void {
    // Of a packet that is skipped the rest is still to come.
    if (this.#skipping) return;
    this.#behind = false;
    const { SYN } = EventType;
    const changes = this.#told.eventsTo(this.#front);
    const end = [SYN, Syn.REPORT, 0];
    this.#ahead = [SYN, Syn.DROPPED, 0, ...end, ...changes, ...(changes.length > 0 ? end : [])];
    this.#aheadTaken = 0;
  }
}
