/** A chain is two flat byte streams, however the driver and the memory table cut them. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { Chain, type ChainOwner, HeldChain } from "../../core/chain.ts";
import { Iovecs, runtime } from "../../ffi/mod.ts";
import type { Buffer } from "../core/driver.ts";
import { Arena } from "./arena.ts";
import { full } from "./property.ts";

const numRuns = full ? 10_000 : 1000;

const length = fc.oneof(
  { weight: 5, arbitrary: fc.nat({ max: 9 }) },
  { weight: 1, arbitrary: fc.integer({ min: 10, max: 3000 }) },
);
const part = fc.record({ length, place: fc.nat({ max: 6 }) });
const parts = fc.array(part, { maxLength: 12, size: "max" });
/** Offsets around the streams' ends and their cuts. */
const offset = fc.oneof(fc.integer({ min: -2, max: 40 }), fc.nat({ max: 4000 }));

type Parts = readonly { readonly length: number; readonly place: number }[];

describe("Chain", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());
  const owner: ChainOwner = { hold: () => new HeldChain(owner, chain), completeHeld: () => {} };
  const chain = new Chain(owner, arena.guest.memory);

  function allocate(parts: Parts, writable: boolean): Buffer[] {
    return parts.flatMap(({ length, place }) => {
      const address = arena.take(length, place);
      return address === null ? [] : [{ address, length, writable }];
    });
  }

  /** Fills memory and the chain. Returns the two streams as they must be. */
  function load(readable: Parts, writable: Parts) {
    arena.reset();
    const inward = allocate(readable, false);
    const outward = allocate(writable, true);
    chain.head = 5;
    chain.setCounts(0, 0, 0, 0);
    for (const { address, length, writable } of [...inward, ...outward]) {
      chain.append(Math.floor(address / 2 ** 32), address | 0, length, writable);
    }
    const flat = (buffers: readonly Buffer[], first: number) => {
      const stream = new Uint8Array(buffers.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const { address, length } of buffers) {
        const bytes = Uint8Array.from({ length }, (_, i) => first + (at + i) * 13);
        arena.write(address, bytes);
        stream.set(bytes, at);
        at += length;
      }
      return stream;
    };
    return { input: flat(inward, 1), output: flat(outward, 101), outward };
  }

  function viewOf(stream: Uint8Array): DataView {
    return new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  }

  /** Both sides agree on a value, or on its being out of range. */
  function sameRead(
    at: number,
    size: number,
    total: number,
    got: () => number,
    want: () => number,
  ) {
    if (at >= 0 && at + size <= total) assert.equal(got(), want());
    else assert.throws(got, RangeError);
  }

  test("reads numbers and bytes as from a flat buffer", () => {
    fc.assert(
      fc.property(
        parts,
        parts,
        fc.array(offset, { minLength: 1 }),
        (readable, writable, offsets) => {
          const { input } = load(readable, writable);
          const view = viewOf(input);
          const total = input.length;
          for (const c of [chain, chain.hold()]) {
            assert.equal(c.readableBytes, total);
            for (const at of offsets) {
              sameRead(
                at,
                1,
                total,
                () => c.readU8(at),
                () => view.getUint8(at),
              );
              sameRead(
                at,
                2,
                total,
                () => c.readU16(at),
                () => view.getUint16(at, true),
              );
              sameRead(
                at,
                4,
                total,
                () => c.readU32(at),
                () => view.getUint32(at, true),
              );
              sameRead(
                at,
                8,
                total,
                () => c.readU64(at),
                () => Number(view.getBigUint64(at, true)),
              );
              if (at < 0) {
                assert.throws(() => c.read(new Uint8Array(4), at), RangeError);
                continue;
              }
              const into = new Uint8Array(64).fill(0xee);
              const expected = new Uint8Array(64).fill(0xee);
              expected.set(input.subarray(at, at + 64));
              assert.equal(c.read(into, at), Math.min(64, Math.max(0, total - at)));
              assert.deepEqual(into, expected);
            }
          }
          arena.verify();
        },
      ),
      { numRuns },
    );
  });

  test("writes bytes as into a flat buffer and nowhere else", () => {
    const act = fc.record({ at: offset, size: fc.nat({ max: 100 }) });
    fc.assert(
      fc.property(parts, parts, fc.array(act), (readable, writable, acts) => {
        const { output, outward } = load(readable, writable);
        const total = output.length;
        assert.equal(chain.writableBytes, total);
        acts.forEach(({ at, size }, i) => {
          const c = i % 2 === 0 ? chain : chain.hold();
          if (at >= 0 && at < total) {
            c.writeU8(at, i + 200);
            output[at] = i + 200;
          } else assert.throws(() => c.writeU8(at, 1), RangeError);
          if (at < 0) {
            assert.throws(() => c.write(new Uint8Array(4), at), RangeError);
            return;
          }
          const bytes = Uint8Array.from({ length: size }, (_, j) => i * 3 + j);
          const fits = Math.min(size, Math.max(0, total - at));
          assert.equal(c.write(bytes, at), fits);
          output.set(bytes.subarray(0, fits), Math.min(at, total));
        });
        if (total > 0) {
          chain.writeLastU8(77);
          output[total - 1] = 77;
        } else assert.throws(() => chain.writeLastU8(77), RangeError);
        arena.expect(outward, output);
        arena.verify();
      }),
      { numRuns },
    );
  });

  test("gives the kernel the same bytes as iovecs", () => {
    fc.assert(
      fc.property(parts, parts, offset, offset, (readable, writable, from, count) => {
        const { input, output } = load(readable, writable);
        for (const [stream, push] of [
          [input, chain.readableIovecs.bind(chain)],
          [output, chain.writableIovecs.bind(chain)],
        ] as const) {
          const at = Math.max(0, from);
          const length = Math.max(0, count);
          const iovecs = new Iovecs();
          assert.throws(() => push(iovecs, -1, 2), RangeError);
          assert.equal(push(iovecs, at, length), length === 0 || at + length <= stream.length);
          assert.deepEqual(gather(iovecs), stream.slice(at, at + length));
        }
      }),
      { numRuns },
    );
  });

  test("says when the iovecs do not hold all of a part", () => {
    const bytes = { length: 1, place: 0 };
    load(Array(5).fill(bytes), []);
    const iovecs = new Iovecs(3);
    assert.equal(chain.readableIovecs(iovecs, 0, 5), false);
    assert.equal(iovecs.bytes, 3);
    iovecs.clear();
    assert.equal(chain.readableIovecs(iovecs, 3, 2), true);
    assert.equal(iovecs.count, 2);
  });

  test("shows its spans, and keeps them when it has more than it had room for at first", () => {
    const { input, output } = load(
      Array.from({ length: 150 }, (_, i) => ({ length: 1 + (i % 3), place: i % 7 })),
      Array.from({ length: 150 }, (_, i) => ({ length: 1 + (i % 5), place: i % 7 })),
    );
    const copy = chain.hold();
    for (const c of [chain, copy]) {
      assert.ok(c.count >= 300);
      const readable = Array.from({ length: c.readableCount }, (_, i) => [...c.readable(i)]);
      const writable = Array.from({ length: c.writableCount }, (_, i) => [...c.writable(i)]);
      assert.deepEqual(readable.flat(), [...input]);
      assert.deepEqual(writable.flat(), [...output]);
      assert.throws(() => c.readable(c.readableCount), RangeError);
      assert.throws(() => c.writable(c.writableCount), RangeError);
      assert.throws(() => c.writable(-1), RangeError);
    }
  });

  test("held beyond the end of its queue, or completed, changes nothing and reads nothing", () => {
    const completed: number[] = [];
    const counting = {
      ...owner,
      completeHeld: (_: HeldChain, count: number) => void completed.push(count),
    };
    const { outward, output } = load([{ length: 4, place: 0 }], [{ length: 4, place: 1 }]);
    for (const end of ["release", "complete"] as const) {
      const held = new HeldChain(counting, chain);
      assert.equal(held.live, true);
      end === "release" ? held.release() : held.complete(4);
      assert.equal(held.live, false);
      const into = new Uint8Array(4);
      assert.equal(held.read(into), 0);
      assert.equal(held.write(Uint8Array.of(1, 2, 3)), 0);
      assert.throws(() => held.writeU8(0, 9), RangeError);
      assert.throws(() => held.writeLastU8(9), RangeError);
      assert.throws(() => held.readU32(0), RangeError);
      assert.throws(() => held.writable(0), RangeError);
      const iovecs = new Iovecs();
      assert.equal(held.readableIovecs(iovecs, 0, 4), false);
      assert.equal(held.writableIovecs(iovecs, 0, 4), false);
      assert.equal(iovecs.count, 0);
      held.complete(5);
      assert.deepEqual([...into], [0, 0, 0, 0]);
    }
    assert.deepEqual(completed, [4], "a chain is completed once");
    arena.expect(outward, output);
    arena.verify();
  });
});

/** The bytes that the iovecs point to. */
function gather(iovecs: Iovecs): Uint8Array {
  const result = new Uint8Array(iovecs.bytes);
  let at = 0;
  for (let i = 0; i < iovecs.count; i++) {
    const [low, high, size] = iovecs.words.subarray(4 * i, 4 * i + 3);
    result.set(new Uint8Array(runtime.view(high! * 2 ** 32 + low!, size!)), at);
    at += size!;
  }
  return result;
}
