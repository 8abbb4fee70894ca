/**
 * The device's side of a split ring in as few words as possible: the third reading of the
 * specification beside the two that are tested with it.
 */
import type { DriverRing, GuestMemory } from "../../frontend/mod.ts";

/** A chain by its head or buffer id. */
export interface Completed {
  readonly id: number;
  /** Slots of a packed ring that the chain takes; 1 in a split one. */
  readonly slots: number;
}

export interface TakenChain extends Completed {
  readonly buffers: readonly { address: number; length: number; writable: boolean }[];
}

export class DeviceModel {
  readonly #memory: GuestMemory;
  readonly #ring: DriverRing;
  #next: number;
  #used: number;

  constructor(memory: GuestMemory, ring: DriverRing, base = 0) {
    this.#memory = memory;
    this.#ring = ring;
    this.#next = base;
    this.#used = base;
  }

  #view(address: number, length: number): DataView {
    const bytes = this.#memory.bytes(address, length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  get #available(): DataView {
    return this.#view(this.#ring.place.available, 6 + 2 * this.#ring.size);
  }

  get #usedRing(): DataView {
    return this.#view(this.#ring.place.used, 6 + 8 * this.#ring.size);
  }

  /** The driver's wish for notifications: avail.flags and used_event. */
  get wishes(): { flags: number; event: number } {
    const view = this.#available;
    const event = view.getUint16(4 + 2 * this.#ring.size, true);
    return { flags: view.getUint16(0, true), event };
  }

  /** Whether the driver wants to hear of the completions since `old`. */
  wantsCall(old: number): boolean {
    const { flags, event } = this.wishes;
    if (!this.#ring.eventIdx) return (flags & 1) === 0;
    for (let i = old; i !== this.#used; i = (i + 1) % 65536) if (i === event) return true;
    return false;
  }

  get used(): number {
    return this.#used;
  }

  /** Sets used.flags, or avail_event. */
  suppress(flags: number, event: number): void {
    this.#usedRing.setUint16(0, flags, true);
    this.#usedRing.setUint16(4 + 8 * this.#ring.size, event, true);
  }

  take(): TakenChain | null {
    const { size, place } = this.#ring;
    const available = this.#available;
    if (available.getUint16(2, true) === this.#next) return null;
    const head = available.getUint16(4 + 2 * (this.#next % size), true);
    this.#next = (this.#next + 1) % 65536;
    let table = this.#view(place.descriptor, 16 * size);
    let index = head;
    const buffers = [];
    for (;;) {
      const address = Number(table.getBigUint64(16 * index, true));
      const length = table.getUint32(16 * index + 8, true);
      const flags = table.getUint16(16 * index + 12, true);
      if ((flags & 4) !== 0) {
        table = this.#view(address, length);
        index = 0;
        continue;
      }
      buffers.push({ address, length, writable: (flags & 2) !== 0 });
      if ((flags & 1) === 0) return { id: head, slots: 1, buffers };
      index = table.getUint16(16 * index + 14, true);
    }
  }

  /** Writes a used element and shows it. */
  complete({ id }: Pick<Completed, "id">, written: number): void {
    const view = this.#usedRing;
    view.setUint32(4 + 8 * (this.#used % this.#ring.size), id, true);
    view.setUint32(8 + 8 * (this.#used % this.#ring.size), written, true);
    this.#used = (this.#used + 1) % 65536;
    view.setUint16(2, this.#used, true);
  }

  /** Completes chains by an element for the last one, as a device with IN_ORDER may (2.7.9). */
  completeBatch(chains: readonly TakenChain[], written: number): void {
    this.complete(chains.at(-1)!, written);
    // The used index skips the elements that are not filled.
    this.#used = (this.#used + chains.length - 1) % 65536;
    this.#usedRing.setUint16(2, this.#used, true);
  }
}
