/** Where the descriptors of fuzzed chains point to, and the values that make them wrong. */
import { RequestType } from "../../devices/blk/wire.ts";
import { MEMORY_SIZE, REGION_SIZE } from "../bad-input/guest.ts";
import type { Random } from "../bad-input/random.ts";
import { INDIRECT, NEXT, WRITE } from "../bad-input/ring.ts";
import { type Arena, TABLES } from "./arena.ts";
import { DISK_SIZE } from "./target.ts";

/** Request headers lie at the start of the second region, buffers behind them. */
const HEADERS = 256;
const HEADER_BYTES = 16;
const DATA = REGION_SIZE + 0x10000;
const DATA_BYTES = MEMORY_SIZE - DATA - 0x10000;
/** Sectors before this one are for verified requests. */
const FIRST_SECTOR = 256;

const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = RequestType;

/** The buffers of one chain after another: a request header, data, a status byte. */
export class Buffers {
  address = 0;
  length = 0;
  writable = false;
  readonly #random: Random;
  readonly #arena: Arena;
  #count = 0;
  #at = 0;
  /** Data that the device writes. */
  #reads = false;

  constructor(random: Random, arena: Arena) {
    this.#random = random;
    this.#arena = arena;
    for (let i = 0; i < HEADERS; i++) this.#header(i);
  }

  /** The first half of the headers is for chains whose data the device writes. */
  #header(i: number): void {
    const random = this.#random;
    const reads = i < HEADERS / 2;
    const common = reads ? IN : OUT;
    const rare = reads ? [FLUSH, GET_ID, 99] : [DISCARD, WRITE_ZEROES, FLUSH, 0xffffffff];
    const type = random.chance(0.9) ? common : random.pick(rare);
    const sectors = DISK_SIZE / 512 - FIRST_SECTOR;
    const sector = random.chance(0.95) ? FIRST_SECTOR + random.below(sectors) : random.bits();
    const at = REGION_SIZE + i * HEADER_BYTES;
    this.#arena.view.setUint32(at, type, true);
    this.#arena.view.setUint32(at + 8, sector, true);
    this.#arena.view.setUint32(at + 12, random.chance(0.98) ? 0 : random.bits(), true);
  }

  /** Begins a chain of `count` buffers. */
  begin(count: number): void {
    this.#count = count;
    this.#at = 0;
    this.#reads = (this.#random.bits() & 1) === 0;
  }

  /** Makes the next buffer of the chain. */
  next(): void {
    const bits = this.#random.bits();
    const at = this.#at++;
    if (at === this.#count - 1) {
      this.address = DATA + (bits % DATA_BYTES);
      this.length = 1 + ((bits >>> 28) & (this.#count === 1 ? 15 : 0));
      this.writable = true;
    } else if (at === 0) {
      const header = (this.#reads ? 0 : HEADERS / 2) + (bits % (HEADERS / 2));
      this.address = REGION_SIZE + header * HEADER_BYTES;
      this.length = HEADER_BYTES;
      this.writable = false;
    } else {
      // Some cross from one region to the next.
      this.address = (bits & 63) === 0 ? REGION_SIZE - 256 : DATA + (bits % DATA_BYTES);
      this.length = (bits & 0xf0000000) === 0 ? 1 + ((bits >>> 8) & 0xfff) : 512;
      this.writable = this.#reads;
    }
  }

  /** Changes a header that the device may be reading. */
  flip(): void {
    this.#header(this.#random.below(HEADERS));
  }
}

/** The low half of an address: at an edge, outside, or in the descriptor table itself. */
export function faultyAddress(random: Random, ring: number): number {
  return random.pick([
    ring,
    TABLES,
    DATA + random.below(DATA_BYTES),
    REGION_SIZE - 8,
    REGION_SIZE - 1,
    MEMORY_SIZE - 8,
    MEMORY_SIZE,
    0x7fffffff,
    -8,
    -1,
  ]);
}

export function faultyLength(random: Random): number {
  return random.pick([0, 1, 15, 16, 17, 48, 511, 512, 513, 4096, 0x7fffffff, -16, -1]);
}

export function faultyFlags(random: Random): number {
  const some = [0, NEXT, WRITE, NEXT | WRITE, INDIRECT, INDIRECT | NEXT, INDIRECT | WRITE, 0xffff];
  return random.chance(0.9) ? random.pick(some) : random.below(65536);
}
