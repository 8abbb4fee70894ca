/**
 * What a driver knows of the chains it made available on a packed ring, by buffer id. The ring cannot
 * tell: used descriptors overwrite it, and its content is the device's to spoil.
 */
import { NEXT } from "./ring-options.ts";

/** What descriptors have as their id in which the device must not look for one. */
export const NO_ID = 0xffff;

export class PackedChains {
  /** Buffer ids are below it, and as many descriptors are in flight at most. */
  readonly size: number;
  inFlight = 0;
  /** Per id: descriptors in the ring, bytes the device may write, and the caller's own number. */
  readonly length: Uint16Array;
  readonly writable: Float64Array;
  readonly token: Int32Array;
  /** The descriptors as they were made available, four words each. */
  readonly saved: Uint32Array;
  /** Where an id's descriptors are in `saved`: the first one, -1 if none, and what follows each. */
  readonly first: Int32Array;
  readonly link: Int32Array;
  /** Descriptors of the shortest chain in flight, or in flight since there was none. */
  shortest = Number.MAX_SAFE_INTEGER;

  readonly #freeIds: Uint16Array;
  #freeIdCount: number;
  readonly #freeSaved: Uint16Array;
  #freeSavedCount: number;
  readonly #live: Uint8Array;
  /** When an id was added, as a count. */
  readonly #serial: Float64Array;
  #serials = 0;
  #shown = 0;
  /** Ids in the order they were added: a queue on a ring. */
  readonly #order: Uint16Array;
  #oldest = 0;
  #newest = 0;

  constructor(size: number) {
    this.size = size;
    this.length = new Uint16Array(size);
    this.writable = new Float64Array(size);
    this.token = new Int32Array(size);
    this.saved = new Uint32Array(4 * size);
    this.first = new Int32Array(size).fill(-1);
    this.link = new Int32Array(size);
    this.#freeIds = Uint16Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#freeIdCount = size;
    this.#freeSaved = Uint16Array.from({ length: size }, (_, i) => i);
    this.#freeSavedCount = size;
    this.#live = new Uint8Array(size);
    this.#serial = new Float64Array(size);
    this.#order = new Uint16Array(size);
  }

  /** Takes a buffer id out of use, -1 when there is none. */
  takeId(): number {
    return this.#freeIdCount === 0 ? -1 : this.#freeIds[--this.#freeIdCount]!;
  }

  freeId(id: number): void {
    this.#freeIds[this.#freeIdCount++] = id;
  }

  /** Keeps a descriptor of the chain `id` that follows `previous`. Returns where it is kept. */
  save(id: number, previous: number, address: number, length: number, flags: number): number {
    const saved = this.#freeSaved[--this.#freeSavedCount]!;
    if (previous < 0) this.first[id] = saved;
    else this.link[previous] = saved;
    this.link[saved] = -1;
    describe(this.saved, saved, address, length, (flags & NEXT) !== 0 ? NO_ID : id, flags);
    return saved;
  }

  /** A chain is made available. */
  enter(id: number, length: number, writable: number, token: number): void {
    this.#live[id] = 1;
    this.length[id] = length;
    this.writable[id] = writable;
    this.token[id] = token;
    this.#serial[id] = this.#serials++;
    this.#order[this.#newest++ % this.size] = id;
    this.shortest = Math.min(this.shortest, length);
    this.inFlight++;
  }

  /** The device can see everything that was entered. */
  show(): void {
    this.#shown = this.#serials;
  }

  /** Tells whether the device may complete this id. */
  isOut(id: number): boolean {
    return id < this.size && this.#live[id] === 1 && this.#serial[id]! < this.#shown;
  }

  /** The id that was added `ahead` chains after the oldest one. For rings used in order. */
  inOrder(ahead: number): number {
    return this.#order[(this.#oldest + ahead) % this.size]!;
  }

  /** The chain is completed: its id and its descriptors may be used again. */
  leave(id: number): void {
    this.#live[id] = 0;
    this.#oldest++;
    if (--this.inFlight === 0) this.shortest = Number.MAX_SAFE_INTEGER;
    if (this.first[id]! < 0) return;
    for (let saved = this.first[id]!; saved >= 0; saved = this.link[saved]!) {
      this.#freeSaved[this.#freeSavedCount++] = saved;
    }
    this.first[id] = -1;
    this.freeId(id);
  }

  /** The ids in flight, in the order they were added. */
  open(): number[] {
    const ids = Array.from(this.#live.keys()).filter((id) => this.#live[id] === 1);
    return ids.sort((a, b) => this.#serial[a]! - this.#serial[b]!);
  }
}

/** Writes descriptor `index` of a table of words. */
export function describe(
  table: Uint32Array,
  index: number,
  address: number,
  length: number,
  id: number,
  flags: number,
): void {
  const at = index * 4;
  table[at] = address >>> 0;
  table[at + 1] = (address / 4294967296) >>> 0;
  table[at + 2] = length;
  table[at + 3] = id | (flags << 16);
}
