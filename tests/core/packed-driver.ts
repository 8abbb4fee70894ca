/**
 * The driver's side of a packed virtqueue, for tests: writes what a guest would write, or worse.
 * Slots are counted from 0 on without an end: those of even laps have wrap counter 1.
 */
import { PackedQueue } from "../../core/packed.ts";
import type { QueueOptions } from "../../core/queue.ts";
import { type Buffer, INDIRECT, NEXT, queueDefaults, WRITE } from "./driver.ts";
import type { TestGuest } from "./guest.ts";

export const AVAIL = 0x80;
export const USED = 0x8000;

export interface PackedDescriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly id: number;
  readonly flags: number;
}

export interface PackedDriverOptions {
  readonly size: number;
  /** Guest address of the descriptor ring; the event areas follow it, in memory of one region. */
  readonly at: number;
  /** The slot to begin with. */
  readonly start?: number;
}

export interface Event {
  readonly flags: number;
  /** A slot, and a wrap counter. */
  readonly slot: number;
  readonly wrap: number;
}

/** What devices have to take from the last descriptor of a list they must not find in the others. */
const NO_ID = 0xabcd;

export class PackedDriver {
  readonly size: number;
  readonly descriptors: DataView<ArrayBuffer>;
  readonly driverEvent: DataView<ArrayBuffer>;
  readonly deviceEvent: DataView<ArrayBuffer>;
  readonly at: { readonly descriptor: number; readonly available: number; readonly used: number };
  /** The next slot to be filled. */
  available: number;
  /** The slot up to which completions were taken. */
  used: number;
  readonly #guest: TestGuest;
  readonly #start: number;
  /** Slots of each chain in flight. */
  readonly #slots = new Map<number, number>();
  #gate: { slot: number; flags: number } | null = null;

  constructor(guest: TestGuest, { size, at, start = 0 }: PackedDriverOptions) {
    this.#guest = guest;
    this.size = size;
    this.at = { descriptor: at, available: at + 16 * size, used: at + 16 * size + 4 };
    guest.fill(at, 16 * size + 8);
    this.descriptors = guest.view(at, 16 * size);
    this.driverEvent = guest.view(this.at.available, 4);
    this.deviceEvent = guest.view(this.at.used, 4);
    this.#start = start;
    this.available = start;
    this.used = start;
    // Slots of earlier laps are used.
    for (let slot = Math.max(0, start - size); slot < start; slot++) {
      this.#setFlags(slot, this.wrap(slot) === 1 ? AVAIL | USED : 0);
    }
  }

  wrap(slot: number): number {
    return 1 - (Math.floor(slot / this.size) % 2);
  }

  /** A slot as 16 bits on the wire. */
  encode(slot: number): number {
    return (slot % this.size) + this.wrap(slot) * 0x8000;
  }

  /** A base with both positions. */
  base(available: number, used: number): number {
    return this.encode(available) + this.encode(used) * 0x10000;
  }

  /** A device queue on this ring. */
  queue(options: Partial<QueueOptions> = {}, Queue: typeof PackedQueue = PackedQueue): PackedQueue {
    const { descriptor, available, used } = this.at;
    return new Queue({
      ...queueDefaults(this.#guest, this.size),
      descriptor: this.#guest.host(descriptor, 16 * this.size),
      available: this.#guest.host(available, 4),
      used: this.#guest.host(used, 4),
      base: this.base(this.#start, this.#start),
      ...options,
    });
  }

  #setFlags(slot: number, flags: number): void {
    this.descriptors.setUint16(16 * (slot % this.size) + 14, flags, true);
  }

  /** The two flags of a slot that is made available. */
  owner(slot: number): number {
    return this.wrap(slot) === 1 ? AVAIL : USED;
  }

  /** Writes any descriptor, which the device can see at once. */
  describe(slot: number, { address, length, id, flags }: PackedDescriptor): void {
    const at = 16 * (slot % this.size);
    this.descriptors.setBigUint64(at, BigInt(address), true);
    this.descriptors.setUint32(at + 8, length, true);
    this.descriptors.setUint16(at + 12, id, true);
    this.descriptors.setUint16(at + 14, flags, true);
  }

  /** Slots that are in no chain. */
  get free(): number {
    return this.size - (this.available - this.used);
  }

  /** Whether a buffer id is in flight. */
  has(id: number): boolean {
    return this.#slots.has(id);
  }

  /** Puts a chain into the next slots; `show` makes it available. Returns the slots. */
  chain(id: number, buffers: readonly Buffer[], table: number | null = null): number[] {
    const first = this.available;
    if (table !== null) {
      this.#guest.write(table, encodePackedTable(buffers));
      this.#put({ address: table, length: buffers.length * 16, id, flags: INDIRECT });
    } else {
      buffers.forEach((buffer, i) => {
        const last = i === buffers.length - 1;
        const flags = (buffer.writable ? WRITE : 0) | (last ? 0 : NEXT);
        this.#put({ ...buffer, id: last ? id : NO_ID, flags });
      });
    }
    const count = this.available - first;
    this.#slots.set(id, count);
    return Array.from({ length: count }, (_, i) => first + i);
  }

  #put(descriptor: PackedDescriptor): void {
    const slot = this.available++;
    const flags = descriptor.flags | this.owner(slot);
    if (this.#gate === null) {
      // What the slot has shows that it is not available; everything else may be there.
      const at = 16 * (slot % this.size);
      const old = this.descriptors.getUint16(at + 14, true);
      this.describe(slot, { ...descriptor, flags: old });
      this.#gate = { slot, flags };
    } else this.describe(slot, { ...descriptor, flags });
  }

  /** Shows the device what was put. */
  show(): void {
    if (this.#gate !== null) this.#setFlags(this.#gate.slot, this.#gate.flags);
    this.#gate = null;
  }

  offer(id: number, buffers: readonly Buffer[], table: number | null = null): void {
    this.chain(id, buffers, table);
    this.show();
  }

  isUsed(slot: number): boolean {
    const flags = this.descriptors.getUint16(16 * (slot % this.size) + 14, true);
    const owner = flags & (AVAIL | USED);
    return owner === (this.wrap(slot) === 1 ? AVAIL | USED : 0);
  }

  /** The used descriptor in a slot. Its length counts if the device says that it wrote something. */
  usedElement(slot: number): { id: number; length: number } {
    const at = 16 * (slot % this.size);
    const wrote = (this.descriptors.getUint16(at + 14, true) & WRITE) !== 0;
    const length = this.descriptors.getUint32(at + 8, true);
    return { id: this.descriptors.getUint16(at + 12, true), length: wrote ? length : 0 };
  }

  /** The used descriptors that are shown. */
  shown(): { id: number; length: number }[] {
    const result = [];
    for (let slot = this.used; slot < this.available && this.isUsed(slot); ) {
      const element = this.usedElement(slot);
      result.push(element);
      slot += this.#slots.get(element.id) ?? this.size;
    }
    return result;
  }

  /** Takes the completions that are shown. */
  reap(): { id: number; length: number }[] {
    const elements = this.shown();
    for (const { id } of elements) {
      this.used += this.#slots.get(id) ?? 0;
      this.#slots.delete(id);
    }
    return elements;
  }

  /** What the driver asks for: flags, and a slot. */
  listen(flags: number, slot = 0): void {
    this.driverEvent.setUint16(0, this.encode(slot), true);
    this.driverEvent.setUint16(2, flags, true);
  }

  get wish(): Event {
    return readEvent(this.driverEvent);
  }

  get deviceWish(): Event {
    return readEvent(this.deviceEvent);
  }
}

function readEvent(view: DataView): Event {
  const position = view.getUint16(0, true);
  return { flags: view.getUint16(2, true), slot: position % 0x8000, wrap: position >> 15 };
}

/** An indirect table; what is reserved in it is not zero. */
export function encodePackedTable(buffers: readonly Buffer[]): Uint8Array {
  const bytes = new Uint8Array(buffers.length * 16);
  const view = new DataView(bytes.buffer);
  buffers.forEach(({ address, length, writable }, i) => {
    view.setBigUint64(16 * i, BigInt(address), true);
    view.setUint32(16 * i + 8, length, true);
    view.setUint16(16 * i + 12, NO_ID, true);
    view.setUint16(16 * i + 14, (writable ? WRITE : 0) | (i % 2 === 1 ? NEXT | INDIRECT : 0), true);
  });
  return bytes;
}
