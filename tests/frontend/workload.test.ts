import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fillPattern, Histogram, isPattern, Journal } from "../../frontend/mod.ts";

describe("the pattern", () => {
  it("differs for each block and each generation, and is zeros at first", () => {
    const words = new Uint32Array(16);
    const seen = new Set<string>();
    for (let block = 0; block < 50; block++) {
      for (let generation = 1; generation < 50; generation++) {
        fillPattern(words, 0, 16, block, generation);
        assert.ok(isPattern(words, 0, 16, block, generation));
        seen.add(words.join());
      }
    }
    assert.equal(seen.size, 50 * 49);
    fillPattern(words, 0, 16, 3, 0);
    assert.deepEqual(words, new Uint32Array(16));
    assert.ok(isPattern(words, 0, 16, 9, 0));
  });

  it("is broken by a single wrong bit, wherever it is", () => {
    const words = new Uint32Array(1024);
    fillPattern(words, 0, 1024, 7, 2);
    for (const at of [0, 1, 511, 1023]) {
      words[at]! ^= 1 << (at % 32);
      assert.equal(isPattern(words, 0, 1024, 7, 2), false);
      words[at]! ^= 1 << (at % 32);
    }
    assert.equal(isPattern(words, 0, 1024, 8, 2), false, "another block");
    assert.equal(isPattern(words, 0, 1024, 7, 1), false, "an older write");
  });
});

describe("Journal", () => {
  it("gives a block to one request at a time", () => {
    const journal = new Journal(512, 3);
    assert.deepEqual(
      [2, 2, 2, 2].map((block) => journal.take(block)),
      [2, 0, 1, -1],
    );
    journal.done(0);
    assert.equal(journal.take(1), 0);
  });

  it("knows what each block should hold", () => {
    const journal = new Journal(512, 2);
    const words = new Uint32Array(128);
    assert.ok(journal.matches(1, words));
    journal.write(1, words);
    const first = words.slice();
    assert.ok(journal.matches(1, words));
    assert.equal(journal.matches(0, words), false);
    journal.write(1, words);
    assert.equal(journal.matches(1, first), false);
    assert.equal(journal.generation(1), 2);
    journal.zero(1);
    assert.ok(journal.matches(1, new Uint32Array(128)));
  });
});

describe("Histogram", () => {
  it("finds percentiles within two percent", () => {
    const histogram = new Histogram();
    for (let i = 1; i <= 10_000; i++) histogram.record(i / 1000);
    for (const percent of [1, 50, 90, 99, 100]) {
      const exact = percent * 100;
      const found = histogram.percentile(percent);
      assert.ok(found >= exact && found <= exact * 1.02, `${percent} %: ${found} us`);
    }
    assert.equal(histogram.max, 10_000);
    assert.ok(Math.abs(histogram.mean - 5000.5) < 0.01);
    assert.equal(histogram.count, 10_000);
  });

  it("takes nothing, the smallest and the largest values", () => {
    const histogram = new Histogram();
    assert.equal(histogram.percentile(50), 0);
    assert.equal(histogram.mean, 0);
    for (const value of [0, -1, 1e-6, 63e-6, 64e-6, 1e12]) histogram.record(value);
    assert.equal(histogram.count, 6);
    assert.ok(histogram.percentile(100) > 1e9);
    assert.ok(histogram.percentile(50) <= 0.064);
  });
});
