import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { copyChain } from "../../core/chain-copy.ts";
import { HostChain } from "../../core/host-chain.ts";

const SIZE = 16_384;

/** A small generator of numbers below `limit`, the same in each run. */
function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
}

/** Cuts a chain's memory into spans with gaps between them. Returns the offsets of their bytes. */
function cut(chain: HostChain, writable: boolean, next: (limit: number) => number): number[] {
  const places: number[] = [];
  let count = 0;
  // What the other direction has must be left alone.
  const before = writable ? 1 + next(2) : 0;
  for (let at = next(8); at < SIZE && count < 24; count++) {
    const length = Math.min(1 + next(next(4) === 0 ? 2000 : 40), SIZE - at);
    chain.spans.set([0, at, length], count << 2);
    if (count >= before) for (let i = 0; i < length; i++) places.push(at + i);
    at += length + next(3) * (1 + next(5));
  }
  if (writable) chain.setCounts(count, before, 0, places.length);
  else chain.setCounts(count, count, places.length, 0);
  return places;
}

describe("copying from chain to chain", () => {
  it("moves the bytes that were asked for and no others, however both are cut", () => {
    using source = new HostChain(SIZE);
    using target = new HostChain(SIZE);
    const next = numbers(7);
    for (let i = 0; i < SIZE; i++) source.bytes[i] = i * 7;
    for (let round = 0; round < 2000; round++) {
      target.bytes.fill(0xee);
      const from = cut(source, false, next);
      const to = cut(target, true, next);
      const [at, into, length] = [next(from.length + 3), next(to.length + 3), next(3000)];
      const expected = target.bytes.slice();
      const count = Math.max(0, Math.min(length, from.length - at, to.length - into));
      for (let i = 0; i < count; i++) expected[to[into + i]!] = source.bytes[from[at + i]!]!;
      assert.equal(copyChain(source, at, target, into, length), count);
      assert.deepEqual(target.bytes, expected);
    }
  });

  it("refuses to select what is not there", () => {
    using chain = new HostChain(100);
    chain.select(90, 10);
    assert.equal(chain.readableBytes, 10);
    assert.throws(() => chain.select(91, 10), RangeError);
    assert.throws(() => chain.select(-1, 10), RangeError);
    assert.throws(() => new HostChain(2 ** 30 + 1), RangeError);
  });
});
