/** The device's side of a packed ring in as few words as possible, as `DeviceModel` for split ones. */
import type { GuestMemory, PackedRing } from "../../frontend/mod.ts";
import type { Completed, TakenChain } from "./device-model.ts";

/** A place in the endless sequence of slots: lap 0 has wrap counter 1, lap 1 has 0, and so on. */
interface Place {
  lap: number;
  slot: number;
}

export class PackedDeviceModel {
  readonly #memory: GuestMemory;
  readonly #ring: PackedRing;
  readonly next: Place;
  readonly used: Place;

  constructor(memory: GuestMemory, ring: PackedRing, base = 0x80008000) {
    this.#memory = memory;
    this.#ring = ring;
    const place = (half: number) => ({ lap: half >= 0x8000 ? 0 : 1, slot: half % 0x8000 });
    this.next = place(base % 0x10000);
    this.used = place(Math.floor(base / 0x10000));
  }

  #view(address: number, length: number): DataView {
    const bytes = this.#memory.bytes(address, length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  #advance(place: Place, slots: number): void {
    place.slot += slots;
    if (place.slot < this.#ring.size) return;
    place.slot -= this.#ring.size;
    place.lap++;
  }

  /** What the driver wants to be told of: flags, and a place as slot and wrap counter. */
  get wishes(): { flags: number; slot: number; wrap: number } {
    const view = this.#view(this.#ring.place.available, 4);
    const event = view.getUint16(0, true);
    return { flags: view.getUint16(2, true), slot: event % 0x8000, wrap: event >> 15 };
  }

  /** Whether the driver wants to hear of the `slots` that were used last. */
  wantsCall(slots: number): boolean {
    const { flags, slot, wrap } = this.wishes;
    if (flags !== 2) return flags === 0;
    for (let back = 1; back <= slots; back++) {
      const at = this.used.lap * this.#ring.size + this.used.slot - back;
      const lap = Math.floor(at / this.#ring.size);
      if (at - lap * this.#ring.size === slot && wrap === (lap % 2 === 0 ? 1 : 0)) return true;
    }
    return false;
  }

  /** Says which kicks are wanted: flags, and `ahead` slots after the next one to be taken. */
  suppress(flags: number, ahead = 0): void {
    const place = { ...this.next };
    this.#advance(place, ahead);
    const view = this.#view(this.#ring.place.used, 4);
    view.setUint16(0, place.slot + (place.lap % 2 === 0 ? 0x8000 : 0), true);
    view.setUint16(2, flags, true);
  }

  take(): TakenChain | null {
    const table = this.#view(this.#ring.place.descriptor, 16 * this.#ring.size);
    const buffers = [];
    for (let slots = 1; ; slots++) {
      const at = 16 * this.next.slot;
      const flags = table.getUint16(at + 14, true);
      const wrap = this.next.lap % 2 === 0;
      const available = ((flags & 0x80) !== 0) === wrap && ((flags & 0x8000) !== 0) !== wrap;
      if (!available && slots === 1) return null;
      if (!available) throw new Error("a chain is shown before all of it is there");
      const address = Number(table.getBigUint64(at, true));
      const length = table.getUint32(at + 8, true);
      if ((flags & 4) !== 0) {
        const inner = this.#view(address, length);
        for (let i = 0; i < length; i += 16) {
          buffers.push({
            address: Number(inner.getBigUint64(i, true)),
            length: inner.getUint32(i + 8, true),
            writable: (inner.getUint16(i + 14, true) & 2) !== 0,
          });
        }
      } else buffers.push({ address, length, writable: (flags & 2) !== 0 });
      this.#advance(this.next, 1);
      if ((flags & 1) === 0) return { id: table.getUint16(at + 12, true), slots, buffers };
    }
  }

  /** Writes a used descriptor. `slots` are what it and those that it skips had. */
  complete({ id, slots }: Completed, written: number): void {
    const table = this.#view(this.#ring.place.descriptor, 16 * this.#ring.size);
    const at = 16 * this.used.slot;
    table.setUint32(at + 8, written, true);
    table.setUint16(at + 12, id, true);
    const both = this.used.lap % 2 === 0 ? 0x8080 : 0;
    table.setUint16(at + 14, both | (written > 0 ? 2 : 0), true);
    this.#advance(this.used, slots);
  }
  /** Completes chains by a descriptor for the last one, as a device with IN_ORDER may (2.8.8). */
  completeBatch(chains: readonly TakenChain[], written: number): void {
    const slots = chains.reduce((sum, chain) => sum + chain.slots, 0);
    this.complete({ id: chains.at(-1)!.id, slots }, written);
  }
}
