/** The stores: files on a real file system, memory, nothing. */
import assert from "node:assert/strict";
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Chain } from "../../core/chain.ts";
import { GuestMemory } from "../../core/memory.ts";
import { ChainTransfer, type Store } from "../../devices/blk/store.ts";
import { FileStore } from "../../devices/blk/stores/file.ts";
import { openStore, parseSize } from "../../devices/blk/stores/mod.ts";
import { NullStore } from "../../devices/blk/stores/null.ts";
import { RamStore } from "../../devices/blk/stores/ram.ts";
import {
  EFAULT,
  EIO,
  O_DIRECT,
  O_RDWR,
  openFile,
  SystemError,
  WINDOW_SIZE,
} from "../../ffi/mod.ts";
import { assertBytes } from "../core/bytes.ts";
import { TestGuest } from "../core/guest.ts";
import { pattern } from "./blk-requests.ts";

const TMPFS = 0x01021994;
const PAGE = 4096;
const MIB = 2 ** 20;

/** A folder on storage that is no tmpfs, which has neither holes to count nor O_DIRECT to refuse. */
const folder = mkdtempSync(join(tmpdir(), "ringside-stores-"));
after(() => rmSync(folder, { recursive: true }));
const onTmpfs = statfsSync(folder).type === TMPFS;

/** A file of so many zeros, or with these contents. */
function makeFile(name: string, content: number | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "number" ? new Uint8Array(0) : content);
  if (typeof content === "number") truncateSync(path, content);
  return path;
}

const fileStore = (path: string, over = {}) =>
  new FileStore({ path, readOnly: false, direct: false, logicalBlockSize: 512, ...over });

describe("The stores", () => {
  let guest: TestGuest;
  before(() => {
    guest = new TestGuest([
      { guestAddress: 0, size: 4 * MIB, at: 4 * MIB },
      { guestAddress: 4 * MIB, size: 4 * MIB, at: 0 },
    ]);
  });
  after(() => guest[Symbol.dispose]());

  const chain = new Chain({
    hold: () => {
      throw new Error("nobody holds");
    },
    completeHeld: () => {},
  });

  /** A transfer over guest memory in pieces of these lengths, one after the other. */
  function transfer(lengths: readonly number[], writable: boolean, at = 4 * MIB - 1000) {
    chain.begin(0);
    let address = at;
    for (const length of lengths) {
      chain.append(guest.memory, address, length, writable);
      address += length;
    }
    return new ChainTransfer().select(chain, 0, address - at, writable);
  }

  const START = 4 * MIB - 1000;

  function write(
    store: Store,
    offset: number,
    data: Uint8Array,
    lengths = [data.length],
    at = START,
  ) {
    guest.write(at, data);
    return store.write(transfer(lengths, false, at), offset);
  }

  function read(store: Store, offset: number, length: number, lengths = [length], at = START) {
    guest.fill(at, length, 0xee);
    const error = store.read(transfer(lengths, true, at), offset);
    assert.equal(error, 0);
    return guest.read(at, length);
  }

  /** Spans that are neither aligned nor as long as one another. */
  const uneven = (total: number): number[] => {
    const lengths: number[] = [];
    for (let left = total, i = 1; left > 0; i = (i * 7) % 1021) {
      lengths.push(Math.min(left, i));
      left -= lengths.at(-1)!;
    }
    return lengths;
  };

  describe("for a file", () => {
    test("reads and writes guest memory across regions", () => {
      using store = fileStore(makeFile("plain", 64 * PAGE));
      const data = pattern(3 * PAGE);
      assert.equal(write(store, 5 * 512, data), 0);
      assertBytes(read(store, 5 * 512, data.length), data);
      assertBytes(read(store, 4 * 512, 512), new Uint8Array(512));
      const file = readFileSync(join(folder, "plain"));
      assertBytes(Uint8Array.from(file.subarray(5 * 512, 5 * 512 + data.length)), data);
      assert.equal(file.length, 64 * PAGE);
    });

    test("moves requests of more buffers than one system call takes", () => {
      using store = fileStore(makeFile("many", MIB));
      const lengths = Array.from({ length: 3000 }, (_, i) => 1 + (i % 9));
      const total = Math.ceil(lengths.reduce((a, b) => a + b) / 512) * 512;
      lengths.push(total - lengths.reduce((a, b) => a + b));
      const data = pattern(total);
      assert.equal(write(store, 512, data, lengths), 0);
      assertBytes(read(store, 512, total, lengths.toReversed()), data);
    });

    test("fails beyond the end of a file that was shortened", () => {
      const path = makeFile("short", 16 * PAGE);
      using store = fileStore(path);
      truncateSync(path, 8 * PAGE);
      assert.equal(store.read(transfer([PAGE], true), 8 * PAGE), -EIO);
      // Half of this is there.
      assert.equal(store.read(transfer([2 * PAGE], true), 7 * PAGE), -EIO);
      assert.equal(store.read(transfer([PAGE], true), 7 * PAGE), 0);
      assert.equal(store.measure(), 8 * PAGE);
    });

    test("fails when it is open for reading only", () => {
      using store = fileStore(makeFile("fixed", pattern(PAGE)), { readOnly: true });
      assert.equal(store.readOnly, true);
      assertBytes(read(store, 0, PAGE), pattern(PAGE));
      assert.ok((write(store, 0, pattern(512)) as number) < 0);
      assert.ok(store.discard(0, 512) < 0);
      assert.ok(store.writeZeroes(0, 512, false) < 0);
      assert.equal(store.flush(), 0);
    });

    test("fails when guest memory is gone from under it", () => {
      // Memory in a file cannot be kept from shrinking. To touch it would end the process, but here
      // the kernel touches it, and says no.
      const path = makeFile("guest-memory", PAGE);
      using fd = openFile(path, O_RDWR);
      using memory = new GuestMemory();
      memory.replace([{ guestAddress: 0, size: PAGE, userAddress: 0, mmapOffset: 0 }], [fd]);
      using store = fileStore(makeFile("disk", PAGE));
      truncateSync(path, 0);
      for (const writable of [true, false]) {
        chain.begin(0);
        chain.append(memory, 0, 512, writable);
        const part = new ChainTransfer().select(chain, 0, 512, writable);
        assert.equal(writable ? store.read(part, 0) : store.write(part, 0), -EFAULT);
      }
    });

    test("says what it cannot serve", () => {
      assert.throws(() => fileStore(folder, { readOnly: true }), /as a disk: it is a directory/);
      assert.throws(
        () => fileStore("/dev/null"),
        /"\/dev\/null" as a disk: it is neither a file nor a block device/,
      );
      assert.throws(
        () => fileStore(join(folder, "missing")),
        (error) => error instanceof SystemError && error.code === "ENOENT",
      );
    });

    test("discards blocks: their storage is free and they read as zeros", (t) => {
      if (onTmpfs) return t.skip(`${folder} is on a tmpfs`);
      const path = makeFile("sparse", pattern(64 * PAGE));
      using store = fileStore(path);
      assert.equal(store.flush(), 0);
      const allocated = statSync(path).blocks * 512;
      assert.equal(store.discard(8 * PAGE, 32 * PAGE), 0);
      assert.ok(statSync(path).blocks * 512 <= allocated - 32 * PAGE);
      assert.equal(statSync(path).size, 64 * PAGE);
      assertBytes(read(store, 8 * PAGE, 32 * PAGE), new Uint8Array(32 * PAGE));
      assertBytes(read(store, 7 * PAGE, PAGE), pattern(64 * PAGE).slice(7 * PAGE, 8 * PAGE));
      assertBytes(read(store, 40 * PAGE, PAGE), pattern(64 * PAGE).slice(40 * PAGE, 41 * PAGE));
    });

    for (const unmap of [true, false]) {
      test(`writes zeros ${unmap ? "and frees" : "but keeps"} the storage`, (t) => {
        if (onTmpfs) return t.skip(`${folder} is on a tmpfs`);
        const path = makeFile(`zeroes-${unmap}`, pattern(64 * PAGE));
        using store = fileStore(path);
        assert.equal(store.flush(), 0);
        const allocated = statSync(path).blocks * 512;
        // Blocks of 512 bytes begin and end within pages.
        assert.equal(store.writeZeroes(512, 32 * PAGE, unmap), 0);
        assert.equal(store.flush(), 0);
        const freed = allocated - statSync(path).blocks * 512;
        assert.equal(freed >= 31 * PAGE, unmap);
        const expected = pattern(64 * PAGE);
        expected.fill(0, 512, 512 + 32 * PAGE);
        assertBytes(read(store, 0, 64 * PAGE), expected);
      });
    }

    test("writes zeros where the file system has no call for that", (t) => {
      const shm = "/dev/shm";
      try {
        if (statfsSync(shm).type !== TMPFS) return t.skip(`${shm} is no tmpfs`);
      } catch {
        return t.skip(`there is no ${shm}`);
      }
      const own = mkdtempSync(join(shm, "ringside-stores-"));
      try {
        const path = join(own, "disk");
        writeFileSync(path, pattern(3 * MIB));
        using store = fileStore(path);
        // Twice: the second time it knows.
        assert.equal(store.writeZeroes(512, MIB + 512, false), 0);
        assert.equal(store.writeZeroes(2 * MIB, 1024, false), 0);
        const expected = pattern(3 * MIB);
        expected.fill(0, 512, MIB + 1024).fill(0, 2 * MIB, 2 * MIB + 1024);
        assertBytes(Uint8Array.from(readFileSync(path)), expected);
      } finally {
        rmSync(own, { recursive: true });
      }
    });

    test("sees that the file has grown", () => {
      const path = makeFile("growing", PAGE);
      using store = fileStore(path);
      assert.equal(store.size, PAGE);
      truncateSync(path, 3 * PAGE);
      assert.equal(store.measure(), 3 * PAGE);
      assert.equal(store.size, PAGE, "the disk has, as long as nobody says so");
    });
  });

  describe("for a file, past the page cache", () => {
    /** Why O_DIRECT cannot be tested here, or null. */
    function directMissing(): string | null {
      try {
        openFile(makeFile("probe", PAGE), O_RDWR | O_DIRECT).close();
        return onTmpfs ? `${folder} is on a tmpfs` : null;
      } catch (error) {
        return `O_DIRECT does not work in ${folder}: ${(error as Error).message}`;
      }
    }
    const missing = directMissing();
    const direct = { direct: true };

    test("moves aligned buffers as they are", (t) => {
      if (missing !== null) return t.skip(missing);
      using store = fileStore(makeFile("direct", 64 * PAGE), direct);
      const data = pattern(8 * PAGE);
      const lengths = [PAGE, 3 * PAGE, 4 * PAGE];
      assert.equal(write(store, PAGE, data, lengths, 0), 0);
      assertBytes(read(store, PAGE, data.length, lengths, 0), data);
      assertBytes(
        Uint8Array.from(readFileSync(join(folder, "direct"))).slice(PAGE, 9 * PAGE),
        data,
      );
    });

    test("moves buffers that are aligned to nothing", (t) => {
      if (missing !== null) return t.skip(missing);
      using store = fileStore(makeFile("unaligned", 4 * MIB), direct);
      for (const [length, offset] of [
        [512, 0],
        [512, 512],
        [3 * PAGE, 1024],
        // More than goes through a buffer of ours at once.
        [2 * MIB + 512, 512],
      ] as const) {
        const data = pattern(length, offset + 3);
        const lengths = length > MIB ? [1, 1000, MIB, length - MIB - 1001] : uneven(length);
        assert.equal(write(store, offset, data, lengths, START + 1), 0);
        assertBytes(read(store, offset, length, lengths.toReversed(), START + 3), data);
      }
    });

    test("moves more unaligned buffers than one system call takes", (t) => {
      if (missing !== null) return t.skip(missing);
      using store = fileStore(makeFile("direct-many", MIB), direct);
      const lengths = Array<number>(2048).fill(3);
      const data = pattern(3 * 2048);
      assert.equal(write(store, 512, data, lengths), 0);
      assertBytes(read(store, 512, data.length, lengths), data);
    });

    test("fails beyond the end of a file that was shortened", (t) => {
      if (missing !== null) return t.skip(missing);
      const path = makeFile("direct-short", 4 * PAGE);
      using store = fileStore(path, direct);
      truncateSync(path, PAGE);
      for (const at of [0, START + 1]) {
        assert.equal(store.read(transfer([PAGE], true, at), PAGE), -EIO);
      }
    });

    test("writes zeros and flushes", (t) => {
      if (missing !== null) return t.skip(missing);
      const path = makeFile("direct-zeroes", pattern(8 * PAGE));
      using store = fileStore(path, direct);
      assert.equal(store.writeZeroes(512, PAGE, false), 0);
      assert.equal(store.flush(), 0);
      const expected = pattern(8 * PAGE);
      expected.fill(0, 512, 512 + PAGE);
      assertBytes(Uint8Array.from(readFileSync(path)), expected);
    });
  });

  describe("for memory", () => {
    const size = WINDOW_SIZE + 4 * MIB;

    test("reads and writes across windows of 1 GiB", () => {
      using store = new RamStore(size, false);
      const data = pattern(MIB);
      for (const offset of [0, WINDOW_SIZE - MIB / 2, WINDOW_SIZE - 512, size - MIB]) {
        assertBytes(read(store, offset, MIB), new Uint8Array(MIB), "it is empty at first");
        assert.equal(write(store, offset, data, uneven(MIB)), 0);
        assertBytes(read(store, offset, MIB, uneven(MIB).toReversed()), data);
        assert.equal(store.writeZeroes(offset, MIB), 0);
      }
    });

    test("zeroes exactly the blocks it is told to", () => {
      using store = new RamStore(size, false);
      const offset = WINDOW_SIZE - 2 * PAGE;
      const data = pattern(4 * PAGE);
      for (const act of [store.discard.bind(store), store.writeZeroes.bind(store)]) {
        assert.equal(write(store, offset, data), 0);
        assert.equal(act(offset + 512, 3 * PAGE), 0);
        const expected = data.slice();
        expected.fill(0, 512, 512 + 3 * PAGE);
        assertBytes(read(store, offset, data.length), expected);
      }
    });

    test("takes memory only for what is written", () => {
      const resident = () =>
        Number(/^RssShmem:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
      const before = resident();
      using store = new RamStore(64 * WINDOW_SIZE, false);
      assert.equal(write(store, 63 * WINDOW_SIZE, pattern(512)), 0);
      assert.equal(store.flush(), 0);
      assert.ok(resident() - before < 64 * MIB);
    });
  });

  test("for nothing succeed and leave the buffers as they are", () => {
    using store = new NullStore(MIB, false);
    assert.equal(write(store, 0, pattern(512)), 0);
    assertBytes(read(store, 0, 512), new Uint8Array(512).fill(0xee));
    assert.deepEqual([store.flush(), store.discard(), store.writeZeroes()], [0, 0, 0]);
  });
});

describe("parseSize()", () => {
  test("reads bytes and powers of 1024", () => {
    const sizes: Readonly<Record<string, number>> = {
      "512": 512,
      "4096": 4096,
      "1k": 1024,
      "1K": 1024,
      "64M": 64 * MIB,
      "64MiB": 64 * MIB,
      "64mb": 64 * MIB,
      "1G": 2 ** 30,
      "1.5G": 1.5 * 2 ** 30,
      "2T": 2 ** 41,
      "0.5k": 512,
    };
    for (const [text, size] of Object.entries(sizes)) assert.equal(parseSize(text), size, text);
  });

  test("throws for anything else", () => {
    for (const text of [
      ..."|0|511|1|-1|1X|1GG|G|1 G|0x1000|1e6|1.0001k|9007199254740992|9000000T|Infinity".split(
        "|",
      ),
      "64M ",
      "64,5M",
      "\n512",
    ]) {
      assert.throws(() => parseSize(text), RangeError, JSON.stringify(text));
    }
  });
});

describe("openStore()", () => {
  const options = { readOnly: false, direct: false, logicalBlockSize: 512 };

  test("chooses by the name", () => {
    using ram = openStore({ ...options, blkFile: "ram:1M" });
    using nothing = openStore({ ...options, blkFile: "null:2T" });
    using file = openStore({ ...options, blkFile: makeFile("chosen", PAGE) });
    assert.ok(ram instanceof RamStore && nothing instanceof NullStore && file instanceof FileStore);
    assert.deepEqual([ram.size, nothing.size, file.size], [MIB, 2 ** 41, PAGE]);
  });

  test("reaches a file of such a name by a path", () => {
    makeFile("ram:1G", PAGE);
    using store = openStore({ ...options, blkFile: join(folder, "ram:1G") });
    assert.ok(store instanceof FileStore);
    assert.equal(store.size, PAGE);
  });

  test("passes on that the disk is read-only", () => {
    for (const blkFile of ["ram:1M", "null:1M", makeFile("read-only", PAGE)]) {
      using store = openStore({ ...options, blkFile, readOnly: true });
      assert.equal(store.readOnly, true);
    }
  });

  test("refuses what makes no sense", () => {
    assert.throws(() => openStore({ ...options, blkFile: "ram:lots" }), /Cannot read "lots"/);
    assert.throws(() => openStore({ ...options, blkFile: "null:" }), RangeError);
    assert.throws(
      () => openStore({ ...options, blkFile: "ram:1M", direct: true }),
      /Cannot use --direct with "ram:1M"/,
    );
  });
});
