import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bitsOf, describeBits, has, mask, RingFeature, VhostFeature } from "../../core/features.ts";

describe("Feature masks", () => {
  test("mask() sets bits of all 64", () => {
    assert.equal(mask(), 0n);
    assert.equal(mask(0, 1, 63), (1n << 63n) | 3n);
    assert.equal(mask(5, 5), 32n);
  });

  test("has() looks at one bit", () => {
    const features = mask(RingFeature.VERSION_1, 63);
    assert.equal(has(features, 32), true);
    assert.equal(has(features, 63), true);
    assert.equal(has(features, 31), false);
    assert.equal(has(features, 0), false);
  });

  test("bitsOf() is the inverse of mask()", () => {
    assert.deepEqual(bitsOf(0n), []);
    assert.deepEqual(bitsOf(mask(63, 7, 0)), [0, 7, 63]);
    assert.equal(bitsOf(2n ** 64n - 1n).length, 64);
  });

  test("describeBits() names the bits it knows", () => {
    const features = mask(9, RingFeature.VERSION_1, VhostFeature.PROTOCOL_FEATURES, 63);
    assert.equal(
      describeBits(features, { FLUSH: 9 }, RingFeature, VhostFeature),
      "FLUSH|PROTOCOL_FEATURES|VERSION_1|bit 63",
    );
    assert.equal(describeBits(0n, RingFeature), "-");
  });
});
