/** What a big-endian ring shares with no other: its chains' numbers, and what is recorded of it. */
import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import { SplitBigEndianQueue } from "../../core/split-big-endian.ts";
import { Arena } from "../properties/arena.ts";
import { DriverRing } from "./driver.ts";

describe("SplitBigEndianQueue", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());
  let ring: DriverRing;
  beforeEach(() => {
    arena.reset();
    ring = new DriverRing(arena.guest, { size: 4, at: arena.rings, littleEndian: false });
  });

  const header = Uint8Array.from([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff, 0x00]);

  test("reads numbers with their first byte first, in one buffer and across several", () => {
    const queue = ring.queue({}, SplitBigEndianQueue);
    for (const sizes of [[10], [1, 9], [3, 3, 3, 1]]) {
      const buffers = sizes.map((length, i) => ({
        address: arena.take(length, i)!,
        length,
        writable: false,
      }));
      let at = 0;
      for (const { address, length } of buffers) {
        arena.write(address, header.subarray(at, at + length));
        at += length;
      }
      const head = ring.offer(buffers);
      assert.ok(queue.next());
      const held = queue.chain.hold();
      for (const chain of [queue.chain, held]) {
        assert.equal(chain.readU8(0), 0x01);
        assert.equal(chain.readU16(0), 0x0123);
        assert.equal(chain.readU16(7), 0xefff);
        assert.equal(chain.readU32(4), 0x89abcdef);
        assert.equal(chain.readU64(1), Number(0x2345_6789_abcd_efffn));
        assert.throws(() => chain.readU32(7), RangeError);
      }
      queue.complete(head, 0);
      queue.publish();
      assert.deepEqual(ring.reap(), [{ id: head, length: 0 }]);
    }
  });

  test("submits again what an earlier back-end had in flight, and goes on after it", () => {
    const bytes = new Uint8Array(new ArrayBuffer(16 + 4 * 16));
    const options = { inflight: { bytes, queueSize: 4 } };
    const buffer = () => [{ address: arena.take(8, 0)!, length: 8, writable: true }];
    const first = ring.queue(options, SplitBigEndianQueue);
    const heads = [ring.offer(buffer()), ring.offer(buffer()), ring.offer(buffer())];
    for (const head of heads) {
      assert.ok(first.next());
      assert.equal(first.chain.head, head);
    }
    first.complete(heads[1]!, 8);
    first.publish();
    const second = ring.queue({ ...options, base: 0 }, SplitBigEndianQueue);
    assert.equal(second.replays, 2);
    const again = [0, 1].map(() => (second.next() ? second.chain.head : -1));
    assert.deepEqual(again, [heads[0], heads[2]]);
    assert.equal(second.base, 3);
    assert.equal(second.next(), false);
  });
});
