/** Parts of the graphics device that need no guest. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DirtyRegion } from "../../devices/gpu/displays/dirty-region.ts";
import { makeEdid } from "../../devices/gpu/edid.ts";
import { orderOf, reorder } from "../../devices/gpu/formats.ts";

describe("makeEdid()", () => {
  it("makes blocks whose header, checksum and preferred mode are right", () => {
    for (const [width, height] of [
      [1280, 800],
      [1, 1],
      [640, 480],
      [1920, 1080],
      [3840, 2160],
      [16384, 16384],
    ] as const) {
      const edid = makeEdid({ width, height, name: "Ringside", serial: 7 });
      assert.deepEqual([...edid.subarray(0, 8)], [0, 255, 255, 255, 255, 255, 255, 0]);
      assert.equal(edid.reduce((sum, byte) => sum + byte, 0) % 256, 0);
      const timing = edid.subarray(54);
      assert.equal(timing[2]! | ((timing[4]! >> 4) << 8), Math.min(width, 4095));
      assert.equal(timing[5]! | ((timing[7]! >> 4) << 8), Math.min(height, 4095));
      const clock = (timing[0]! | (timing[1]! << 8)) * 10_000;
      const across = Math.min(width, 4095) + (timing[3]! | ((timing[4]! & 15) << 8));
      const down = Math.min(height, 4095) + (timing[6]! | ((timing[7]! & 15) << 8));
      const rate = clock / (across * down);
      assert.ok(width > 4000 ? rate > 30 : Math.abs(rate - 60) < 0.6, `${rate} Hz`);
      assert.ok(Buffer.from(edid).includes("Ringside\n"));
    }
  });
});

describe("a dirty region", () => {
  it("covers what was added and, below its limit, nothing else", () => {
    const region = new DirtyRegion();
    const cells = (of: DirtyRegion) => {
      const set = new Set<number>();
      for (let i = 0; i < of.count; i++) {
        for (let y = of.top(i); y < of.bottom(i); y++) {
          for (let x = of.left(i); x < of.right(i); x++) set.add(y * 100 + x);
        }
      }
      return set;
    };
    const wanted = new Set<number>();
    for (let i = 0; i < 16; i++) {
      const [x, y, width, height] = [(i * 37) % 80, (i * 53) % 80, 1 + (i % 7), 1 + (i % 5)];
      region.add(x, y, width, height);
      for (let dy = 0; dy < height; dy++) {
        for (let dx = 0; dx < width; dx++) wanted.add((y + dy) * 100 + x + dx);
      }
    }
    assert.deepEqual([...cells(region)].sort(), [...wanted].sort());
    region.add(90, 90, 1, 1);
    assert.ok(region.count <= 16);
    const after = cells(region);
    assert.ok([...wanted].every((cell) => after.has(cell)) && after.has(9090));
  });

  it("forgets rectangles within others, and rows that were taken", () => {
    const region = new DirtyRegion();
    region.add(2, 2, 3, 3);
    region.add(8, 8, 1, 1);
    region.add(0, 0, 10, 10);
    assert.equal(region.count, 1);
    region.add(4, 4, 2, 2);
    assert.equal(region.count, 1);
    region.shorten(7);
    assert.deepEqual([region.top(0), region.bottom(0)], [7, 10]);
    region.shorten(3);
    assert.equal(region.count, 0);
  });
});

describe("pixel formats", () => {
  it("are the eight of virtio 1.3, 5.7.6.8", () => {
    const known = Array.from({ length: 200 }, (_, format) => format).filter((f) => orderOf(f) >= 0);
    assert.deepEqual(known, [1, 2, 3, 4, 67, 68, 121, 134]);
  });

  it("become B8G8R8A8 where they are asked to, and only there", () => {
    const bgra = 0x44332211;
    const forms = { 1: 0x44332211, 3: 0x11223344, 67: 0x44112233, 121: 0x33221144 };
    for (const [format, value] of Object.entries(forms)) {
      const pixels = new Uint32Array(4).fill(value);
      reorder(pixels, 1, 3, orderOf(Number(format)));
      assert.deepEqual([...pixels], [value, bgra, bgra, value], format);
    }
  });
});
