/**
 * Guest memory for random tests, with a copy of what it must hold. Buffers are taken from places next
 * to the borders of regions and windows, one after the other, so that many of them lie across one.
 */
import assert from "node:assert/strict";
import { WINDOW_SIZE } from "../../ffi/mod.ts";
import type { Buffer } from "../core/driver.ts";
import { type RegionPlan, TestGuest } from "../core/guest.ts";

const FOUR_GIB = 2 ** 32;
/** A region of more than one window. */
const LARGE = 0x10_0000_0000;

const regions: readonly RegionPlan[] = [
  { guestAddress: 0, size: 0x10000, at: 0x20000 },
  { guestAddress: 0x10000, size: 0x8000, at: 0x8000 },
  { guestAddress: 0x18000, size: 0x8000, at: 0 },
  { guestAddress: 0x2000_0000, size: 0x1000, at: 0x33000 },
  { guestAddress: 0x2000_1000, size: 0x1000, at: 0x31000 },
  { guestAddress: 0x2000_2000, size: 0x1000, at: 0x32000 },
  { guestAddress: 0x2000_3000, size: 0x1000, at: 0x30000 },
  // Neither size nor offset in whole pages.
  { guestAddress: 0x3000_0000, size: 0x1800, at: 0x34800 },
  { guestAddress: 0x3000_1800, size: 0x1234, at: 0x36c08 },
  { guestAddress: FOUR_GIB - 0x4000, size: 0x4000, at: 0x10000 },
  { guestAddress: FOUR_GIB, size: 0x8000, at: 0x18000 },
  { guestAddress: LARGE, size: WINDOW_SIZE + 0x10000, at: 0, file: 1 },
];

interface Place {
  readonly start: number;
  readonly end: number;
  readonly shadow: Uint8Array;
  /** How much has been given away since `reset`. */
  taken: number;
}

/** Bytes after the last buffer of a place that must stay as they are. */
const GUARD = 64;

const place = (start: number, end: number): Place => ({
  start,
  end,
  shadow: new Uint8Array(end - start),
  taken: 0,
});

export class Arena implements Disposable {
  readonly guest = new TestGuest(regions);
  /** Guest address of room for one ring of up to 1024 descriptors. */
  readonly rings = 0x100;
  readonly #places: readonly Place[] = [
    place(0x10000 - 300, 0x20000),
    place(FOUR_GIB - 150, FOUR_GIB + 0x8000),
    place(0x2000_1000 - 100, 0x2000_4000),
    place(0x3000_1800 - 50, 0x3000_1800 + 0x1234),
    place(LARGE + WINDOW_SIZE - 80, LARGE + WINDOW_SIZE + 0x8000),
    place(LARGE + WINDOW_SIZE + 0x8000, LARGE + WINDOW_SIZE + 0x10000),
    place(LARGE, LARGE + 0x8000),
  ];

  [Symbol.dispose](): void {
    this.guest[Symbol.dispose]();
  }

  /** Takes all buffers back and clears them. */
  reset(): void {
    for (const place of this.#places) {
      const length = guarded(place);
      this.guest.fill(place.start, length);
      place.shadow.fill(0, 0, length);
      place.taken = 0;
    }
  }

  /** The guest address of `length` fresh bytes, or null when the place is used up. */
  take(length: number, which: number): number | null {
    const place = this.#places[which % this.#places.length]!;
    const address = place.start + place.taken;
    if (address + length > place.end) return null;
    place.taken += length;
    return address;
  }

  /** The guest writes. */
  write(address: number, bytes: Uint8Array): void {
    this.guest.write(address, bytes);
    this.expect([{ address, length: bytes.length, writable: true }], bytes);
  }

  /** Takes over what the guest has written. */
  keep(address: number, length: number): void {
    if (length > 0) this.write(address, this.guest.read(address, length));
  }

  /** The device must have written `bytes` to the buffers. */
  expect(buffers: readonly Buffer[], bytes: Uint8Array): void {
    let done = 0;
    for (const { address, length } of buffers) {
      const part = bytes.subarray(done, done + length);
      if (part.length === 0) continue;
      const { start, shadow } = this.#placeOf(address);
      shadow.set(part, address - start);
      done += part.length;
    }
  }

  /** Fails when memory is not what it must be. */
  verify(): void {
    for (const place of this.#places) {
      const length = guarded(place);
      const memory = this.guest.read(place.start, length);
      const at = memory.findIndex((byte, i) => byte !== place.shadow[i]);
      assert.equal(at, -1, `guest memory at ${place.start + at} was changed or not written`);
    }
  }

  #placeOf(address: number): Place {
    return this.#places.find(({ start, end }) => address >= start && address < end)!;
  }
}

const guarded = ({ start, end, taken }: Place) => Math.min(end - start, taken + GUARD);
