/** Mapped memory: windows, aliases, and what is left when a mapping is released. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import {
  bytes,
  createMemfd,
  type Fd,
  Iovecs,
  libc,
  Mapping,
  PAGE_SIZE,
  runtime,
  SystemError,
  WINDOW_SIZE,
} from "../../ffi/mod.ts";
import { createPipe } from "./pipe.ts";

const GIB = 2 ** 30;

function readAt(file: Fd, length: number, offset: number): number[] {
  const into = bytes(length);
  const iov = new Iovecs(1);
  iov.pushView(into);
  assert.equal(libc.preadv(file.number, iov.words, 1, offset), length);
  return [...into];
}

function addressSpace(): { kilobytes: number; maps: number } {
  const size = /^VmSize:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
  const maps = readFileSync("/proc/self/maps", "utf8").split("\n").length;
  return { kilobytes: Number(size![1]), maps };
}

describe("a mapping", () => {
  it("of more than 1 GiB has windows of at most 1 GiB that reach its last byte", () => {
    const size = 3 * GIB + PAGE_SIZE;
    using file = createMemfd("ringside-test", size);
    using mapping = new Mapping(file, size);
    let end = mapping.address;
    mapping.windows.forEach((window, i) => {
      assert.ok(window.length <= WINDOW_SIZE);
      assert.equal(window.address, end);
      end += window.length;
      window.u8[Math.min(window.length, size - i * GIB) - 1] = 0x10 + i;
      window.data.setUint32(0, 0xa0 + i, true);
    });
    assert.ok(end >= mapping.address + size);
    for (let i = 0; i < 4; i++) {
      const last = Math.min((i + 1) * GIB, size) - 1;
      assert.deepEqual(readAt(file, 1, last), [0x10 + i]);
      assert.deepEqual(readAt(file, 4, i * GIB), [0xa0 + i, 0, 0, 0]);
    }
  });

  it("has memory of no one behind its end, if its windows go on there", () => {
    using file = createMemfd("ringside-test", 64 * PAGE_SIZE);
    using mapping = new Mapping(file, 9 * PAGE_SIZE);
    const all = mapping.windows[0]!.u8;
    all.fill(0x33);
    assert.deepEqual(readAt(file, 1, 9 * PAGE_SIZE - 1), [0x33]);
    for (let page = 9; page < 64; page++) assert.deepEqual(readAt(file, 1, page * PAGE_SIZE), [0]);
  });

  it("starts at a file offset beyond 4 GiB", () => {
    const offset = 4 * GIB + PAGE_SIZE;
    using file = createMemfd("ringside-test", offset + PAGE_SIZE);
    using mapping = new Mapping(file, PAGE_SIZE, offset);
    mapping.windows[0]!.u8.set([1, 2, 3], 5);
    assert.deepEqual(readAt(file, 3, offset + 5), [1, 2, 3]);
    assert.deepEqual(readAt(file, 3, PAGE_SIZE + 5), [0, 0, 0]);
  });

  it("of part of a page covers the page", () => {
    using file = createMemfd("ringside-test", 100);
    using mapping = new Mapping(file, 100);
    assert.equal(mapping.windows[0]!.length, PAGE_SIZE);
  });

  it("shows what another mapping of the file, or another view of it, writes", () => {
    using file = createMemfd("ringside-test", PAGE_SIZE);
    using first = new Mapping(file, PAGE_SIZE);
    using second = new Mapping(file, PAGE_SIZE);
    assert.notEqual(first.address, second.address);
    const again = new Uint32Array(runtime.view(first.address, PAGE_SIZE));
    const near = new Uint32Array(first.windows[0]!.u8.buffer);
    const far = new Uint32Array(second.windows[0]!.u8.buffer);
    for (let i = 0; i < 1_000; i++) {
      Atomics.store(near, i % 1024, i);
      if (Atomics.load(again, i % 1024) !== i) assert.fail(`second view, round ${i}`);
      if (Atomics.load(far, i % 1024) !== i) assert.fail(`second mapping, round ${i}`);
      Atomics.add(far, i % 1024, 7);
      if (near[i % 1024] !== i + 7) assert.fail(`first view, round ${i}`);
    }
  });

  it("takes what the kernel reads into it by address, and gives what it writes", () => {
    const size = 2 * GIB;
    using file = createMemfd("ringside-disk", 3 * PAGE_SIZE);
    using guest = createMemfd("ringside-guest", size);
    using memory = new Mapping(guest, size);
    const [low, high] = memory.windows;
    low!.u8.fill(0x11, 0, 512);
    high!.u8.fill(0x22, 0, 512);
    const iov = new Iovecs(4);
    iov.push(memory.address, 512);
    iov.push(memory.address + GIB, 512);
    assert.equal(libc.pwritev(file.number, iov.words, iov.count, PAGE_SIZE), 1024);
    assert.deepEqual(readAt(file, 2, PAGE_SIZE + 511), [0x11, 0x22]);
    iov.clear();
    iov.push(memory.address + GIB + PAGE_SIZE, 512);
    iov.push(memory.address + PAGE_SIZE, 512);
    assert.equal(libc.preadv(file.number, iov.words, iov.count, PAGE_SIZE), 1024);
    assert.equal(high!.u8[PAGE_SIZE + 511], 0x11);
    assert.equal(low!.u8[PAGE_SIZE], 0x22);
  });

  it("is refused with the reason when the descriptor cannot be mapped", () => {
    using pipe = createPipe();
    const { reader } = pipe;
    assert.throws(() => new Mapping(reader, PAGE_SIZE), SystemError);
    assert.throws(() => new Mapping(reader, 0), RangeError);
    assert.throws(() => new Mapping(reader, 2 ** 53), RangeError);
  });
});

describe("a released mapping", () => {
  it("reads as zeros through views that are still around", () => {
    using file = createMemfd("ringside-test", 16 * PAGE_SIZE);
    const mapping = new Mapping(file, 16 * PAGE_SIZE);
    const stale = mapping.windows[0]!.u8;
    const view = new Uint32Array(runtime.view(mapping.address, PAGE_SIZE));
    stale.fill(0x5a);
    mapping[Symbol.dispose]();
    assert.deepEqual([stale[0], stale[16 * PAGE_SIZE - 1], view[7]], [0, 0, 0]);
    stale.fill(0x77);
    assert.deepEqual(readAt(file, 1, 0), [0x5a], "the file must be out of reach");
  });

  it("may be released twice", () => {
    using file = createMemfd("ringside-test", PAGE_SIZE);
    const mapping = new Mapping(file, PAGE_SIZE);
    mapping[Symbol.dispose]();
    using next = new Mapping(file, PAGE_SIZE);
    next.windows[0]!.u8[0] = 9;
    mapping[Symbol.dispose]();
    assert.equal(next.windows[0]!.u8[0], 9);
  });

  it("that is abandoned reads as zeros, too, and its place is never used again", () => {
    using file = createMemfd("ringside-test", 4 * PAGE_SIZE);
    const abandoned = new Mapping(file, 4 * PAGE_SIZE);
    const stale = abandoned.windows[0]!.u8;
    stale[0] = 5;
    abandoned.abandon();
    assert.equal(stale[0], 0);
    for (let i = 0; i < 100; i++) {
      using mapping = new Mapping(file, 4 * PAGE_SIZE);
      assert.notEqual(mapping.address, abandoned.address);
      mapping.windows[0]!.u8[0] = 6;
    }
    assert.equal(stale[0], 0);
  });

  it("leaves the address space as it was, 10 000 times, equal and changing sizes", () => {
    const pages = 256;
    using file = createMemfd("ringside-test", pages * PAGE_SIZE);
    const cycle = (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        using table = new Mapping(file, pages * PAGE_SIZE);
        // Every size there is, so that no released range fits by luck.
        using changing = new Mapping(file, ((i % pages) + 1) * PAGE_SIZE);
        table.windows[0]!.u8[0] = 1;
        changing.windows[0]!.u8[1] = 1;
      }
    };
    cycle(0, 1_000);
    const before = addressSpace();
    cycle(1_000, 10_000);
    const after = addressSpace();
    // The collector of the runtime maps and unmaps memory of its own meanwhile.
    assert.ok(after.maps - before.maps < 100, `${before.maps} maps became ${after.maps}`);
    const grown = after.kilobytes - before.kilobytes;
    assert.ok(grown < 128 * 1024, `the address space grew by ${grown} kB`);
  });

  it("keeps few released ranges, however many sizes there are", () => {
    const sizes = 5_000;
    using file = createMemfd("ringside-test", sizes * PAGE_SIZE);
    const before = addressSpace();
    for (let i = 0; i < sizes; i++) {
      // Each size once, in an order that goes up and down.
      using _mapping = new Mapping(file, (((i * 7919) % sizes) + 1) * PAGE_SIZE);
    }
    const after = addressSpace();
    assert.ok(after.maps - before.maps < 200, `${before.maps} maps became ${after.maps}`);
    const grown = after.kilobytes - before.kilobytes;
    assert.ok(grown < 2 * 1024 * 1024, `the address space grew by ${grown} kB`);
  });
});
