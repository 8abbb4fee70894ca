/** The bytes of in-flight regions (vhost-user: Inflight I/O tracking), and what is left of hostile ones. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { ProtocolError } from "../../core/errors.ts";
import { createInflight, InflightRegion, inflightQueueBytes } from "../../core/inflight.ts";
import type { Queue } from "../../core/queue.ts";
import { DriverRing } from "./driver.ts";
import { TestGuest } from "./guest.ts";
import { PackedDriver } from "./packed-driver.ts";

const SIZE = 4;
const DATA = 0x8000;
const out = (at: number) => ({ address: DATA + 16 * at, length: 8, writable: false });
const into = (at: number) => ({ address: DATA + 16 * at, length: 8, writable: true });

/** Memory for a part, as a fresh region has it. */
const fresh = (packed: boolean, size = SIZE) =>
  new Uint8Array(new ArrayBuffer(inflightQueueBytes(size, packed)));

/** Bytes as lines of hexadecimal digits; spaces and what follows a "#" do not count. */
function assertPart(part: Uint8Array, ...lines: readonly string[]): void {
  const text = lines.map((line) => line.replace(/#.*| /g, "")).join("");
  const expected = text.padEnd(2 * part.length, "0");
  const dump = (hex: string) => hex.replace(/(.{32})/g, "$1\n");
  assert.equal(dump(Buffer.from(part).toString("hex")), dump(expected));
}

const taken = (queue: Queue): number => {
  assert.ok(queue.next());
  return queue.chain.head;
};

describe("An in-flight region", () => {
  const guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
  after(() => guest[Symbol.dispose]());

  test("has 16 bytes and 16 for each descriptor, or 32 and 32, in multiples of 64", () => {
    const sizes = [1, 3, 4, 128, 32768];
    const bytes = (packed: boolean) => sizes.map((size) => inflightQueueBytes(size, packed));
    assert.deepEqual(bytes(false), [64, 64, 128, 2112, 524_352]);
    assert.deepEqual(bytes(true), [64, 128, 192, 4160, 1_048_640]);
  });

  test("records the requests of a split ring", () => {
    const ring = new DriverRing(guest, { size: SIZE, at: 0, base: 9, used: 9 });
    const bytes = fresh(false);
    const queue = ring.queue({ inflight: { bytes, queueSize: SIZE } });
    const header = "0000000000000000 0100 0400";
    assertPart(bytes, `${header} 0000 0900`);
    for (let i = 0; i < 3; i++) ring.offer([into(i)]);
    assert.deepEqual([taken(queue), taken(queue), taken(queue)], [0, 1, 2]);
    queue.complete(1, 8);
    queue.publish();
    queue.complete(2, 8);
    assertPart(
      bytes,
      `${header} 0200 0a00 # last_batch_head, used_idx`,
      "01 0000000000 0000 0000000000000000 # inflight, next, counter",
      "00 0000000000 0000 0100000000000000",
      "01 0000000000 0100 0200000000000000",
    );
    const next = ring.queue({ base: 0, inflight: { bytes, queueSize: SIZE } });
    assert.deepEqual([next.replays, next.base], [2, 12]);
    assert.deepEqual([taken(next), taken(next), next.next()], [0, 2, false]);
  });

  test("records the requests of a packed ring", () => {
    const ring = new PackedDriver(guest, { size: SIZE, at: 0 });
    const bytes = fresh(true);
    const queue = ring.queue({ inflight: { bytes, queueSize: SIZE } });
    const header = "0000000000000000 0100 0400";
    ring.offer(10, [out(0), into(1)]);
    ring.offer(11, [into(2)]);
    assert.deepEqual([taken(queue), taken(queue)], [10, 11]);
    const first = [
      "01 00 0100 0100 0200 0000000000000000 # inflight, next, last, num, counter",
      "cdab 8100 08000000 0080000000000000   # id, flags, len, addr",
      "00 00 0200 0000 0000 0000000000000000",
      "0a00 8200 08000000 1080000000000000",
    ];
    const second = ["0300 0200 0100 0100000000000000", "0b00 8200 08000000 2080000000000000"];
    const free = "00 00 0400 0000 0000 0000000000000000";
    assertPart(
      bytes,
      `${header} 0300 0300 # free_head, old_free_head`,
      "0000 0000 01 01 00000000000000 000000 # used_idx, old_used_idx, wrap counters",
      ...first,
      `01 00 ${second.join("")}`,
      free,
    );
    queue.complete(11, 8);
    queue.publish();
    assertPart(
      bytes,
      `${header} 0200 0200`,
      "0100 0100 01 01 00000000000000 000000",
      ...first,
      `00 00 ${second.join("")}`,
      free,
    );
    const next = ring.queue({ base: 0x8000_8000, inflight: { bytes, queueSize: SIZE } });
    assert.deepEqual([next.replays, next.base], [1, ring.base(3, 1)]);
    assert.deepEqual([taken(next), next.next()], [10, false]);
    assert.deepEqual([next.chain.readableBytes, next.chain.writableBytes], [8, 8]);
  });

  test("tells a commit that ended between its stores, though the slot is available again", () => {
    const ring = new PackedDriver(guest, { size: SIZE, at: 0, start: 2 });
    const bytes = fresh(true);
    const inflight = { bytes, queueSize: SIZE };
    const queue = ring.queue({ inflight });
    for (let id = 0; id < 3; id++) ring.offer(id, [into(id)]);
    for (let id = 0; id < 3; id++) queue.complete(taken(queue), 8);
    queue.publish();
    // As it was before the last store: the ring goes on at slot 1 of the next lap, not at 2.
    const words = new Uint16Array(bytes.buffer);
    assert.deepEqual([words[8], words[9], bytes[20], bytes[21]], [1, 1, 0, 0]);
    words[9] = 2;
    // The driver takes its completions and comes round to slot 2 again.
    assert.equal(ring.reap().length, 3);
    for (let id = 10; id < 13; id++) ring.offer(id, [into(id)]);
    const next = ring.queue({ base: 0x8000_8000, inflight });
    assert.deepEqual([next.replays, next.base], [0, ring.base(5, 5)]);
    assert.deepEqual([taken(next), taken(next), taken(next)], [10, 11, 12]);
  });

  test("keeps the order of requests whose numbers have 64 bits", () => {
    const numbers = [2n ** 53n + 1n, 2n ** 53n, 2n ** 64n - 1n, 2n ** 32n - 1n];
    const ring = new DriverRing(guest, { size: SIZE, at: 0 });
    for (let i = 0; i < SIZE; i++) ring.offer([into(i)]);
    const bytes = fresh(false);
    const inflight = { bytes, queueSize: SIZE };
    const queue = ring.queue({ base: 0, inflight });
    for (let i = 0; i < SIZE; i++) taken(queue);
    const words = new BigUint64Array(bytes.buffer);
    numbers.forEach((number, head) => {
      words[3 + 2 * head] = number;
    });
    const next = ring.queue({ inflight });
    assert.deepEqual([taken(next), taken(next), taken(next), taken(next)], [3, 1, 0, 2]);
    assert.deepEqual([words[3], words[5], words[7], words[9]], [2n, 1n, 3n, 0n]);
  });

  test("belongs to rings of its kind, count and size", () => {
    const { fd, shape } = createInflight(2, SIZE, true);
    try {
      using region = new InflightRegion(fd, shape, true);
      const refused = (index: number, size: number, packed: boolean) =>
        assert.throws(() => region.part(index, size, packed), ProtocolError);
      refused(2, SIZE, true);
      refused(0, SIZE + 1, true);
      refused(0, SIZE, false);
      const [first, second] = [region.part(0, 3, true), region.part(1, SIZE, true)];
      assert.equal(first.length, 192);
      assert.equal(second.byteOffset - first.byteOffset, 192);
    } finally {
      fd.close();
    }
  });
});
