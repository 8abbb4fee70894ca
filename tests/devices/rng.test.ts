import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import rng from "../../devices/rng/mod.ts";
import { type Buffer, DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";
import { TestHost } from "./host.ts";

const DATA = 0x40000 - 100;

describe("The entropy source", () => {
  const guest = new TestGuest([
    { guestAddress: 0, size: 0x40000, at: 0x40000 },
    { guestAddress: 0x40000, size: 0x40000, at: 0 },
  ]);
  after(() => guest[Symbol.dispose]());
  beforeEach(() => guest.fill(0x8000, 0x78000));

  async function fill(...buffers: readonly Buffer[]): Promise<number> {
    const { device } = await rng.open({}, new TestHost());
    const ring = new DriverRing(guest, { size: 8, at: 0 });
    ring.offer(buffers);
    const queue = ring.queue({ base: 0 });
    assert.ok(queue.next());
    return device.handle!(queue.chain, queue);
  }

  const writable = (address: number, length: number) => ({ address, length, writable: true });

  /** Random bytes are hardly ever zero for long. */
  function assertRandom(address: number, length: number): void {
    for (let at = 0; at < length; at += 64) {
      const part = guest.read(address + at, Math.min(64, length - at));
      if (part.length >= 16) assert.ok(new Set(part).size > 4, `no entropy at ${at}`);
    }
  }

  test("fills every writable buffer, across regions, and counts all of it", async () => {
    assert.equal(await fill(writable(DATA, 1000), writable(0x50000, 64)), 1064);
    assertRandom(DATA, 1000);
    assertRandom(0x50000, 64);
  });

  test("fills more than the generator gives at once", async () => {
    const length = 3 * 65536 + 100;
    assert.equal(await fill(writable(DATA, length)), length);
    assertRandom(DATA, length);
  });

  test("gives a greedy driver less than it asks for", async () => {
    const all = Array.from({ length: 8 }, () => writable(0x40000, 0x40000));
    assert.equal(await fill(...all), 2 ** 20);
  });

  test("writes nothing beyond its buffers", async () => {
    await fill(writable(DATA, 100));
    assert.deepEqual(guest.read(DATA - 64, 64), new Uint8Array(64));
    assert.deepEqual(guest.read(DATA + 100, 64), new Uint8Array(64));
  });

  test("leaves readable buffers alone", async () => {
    guest.fill(0x10000, 64, 7);
    const readable = { address: 0x10000, length: 64, writable: false };
    assert.equal(await fill(readable, writable(DATA, 32)), 32);
    assert.deepEqual(guest.read(0x10000, 64), new Uint8Array(64).fill(7));
    assert.equal(await fill(readable), 0);
    assert.equal(await fill(writable(DATA, 0)), 0);
  });

  test("gives something else each time", async () => {
    await fill(writable(DATA, 32));
    const first = guest.read(DATA, 32);
    await fill(writable(DATA, 32));
    assert.notDeepEqual(guest.read(DATA, 32), first);
  });
});
