/** Disks in files, on a real file system. */
import assert from "node:assert/strict";
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { Chain } from "../../core/chain.ts";
import { GuestMemory } from "../../core/memory.ts";
import { ChainTransfer } from "../../devices/blk/store.ts";
import { FileStore } from "../../devices/blk/stores/file.ts";
import { EFAULT, EIO, O_DIRECT, O_RDWR, openFile, SystemError } from "../../ffi/mod.ts";
import { assertBytes } from "../core/bytes.ts";
import { pattern } from "./blk-requests.ts";
import {
  MIB,
  nobody,
  PAGE,
  START,
  TMPFS,
  type Transfers,
  uneven,
  useFolder,
  useTransfers,
} from "./transfers.ts";

const { folder, makeFile, onTmpfs } = useFolder();

const fileStore = (path: string, over = {}) =>
  new FileStore({ path, readOnly: false, direct: false, logicalBlockSize: 512, ...over });

describe("The store", () => {
  const transfers = useTransfers();
  let t: Transfers;
  before(() => {
    t = transfers.current;
  });

  describe("for a file", () => {
    test("reads and writes guest memory across regions", () => {
      using store = fileStore(makeFile("plain", 64 * PAGE));
      const data = pattern(3 * PAGE);
      assert.equal(t.write(store, 5 * 512, data), 0);
      assertBytes(t.read(store, 5 * 512, data.length), data);
      assertBytes(t.read(store, 4 * 512, 512), new Uint8Array(512));
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
      assert.equal(t.write(store, 512, data, lengths), 0);
      assertBytes(t.read(store, 512, total, lengths.toReversed()), data);
    });

    test("fails beyond the end of a file that was shortened", () => {
      const path = makeFile("short", 16 * PAGE);
      using store = fileStore(path);
      truncateSync(path, 8 * PAGE);
      assert.equal(store.read(t.select([PAGE], true), 8 * PAGE), -EIO);
      // Half of this is there.
      assert.equal(store.read(t.select([2 * PAGE], true), 7 * PAGE), -EIO);
      assert.equal(store.read(t.select([PAGE], true), 7 * PAGE), 0);
      assert.equal(store.measure(), 8 * PAGE);
    });

    test("fails when it is open for reading only", () => {
      using store = fileStore(makeFile("fixed", pattern(PAGE)), { readOnly: true });
      assert.equal(store.readOnly, true);
      assertBytes(t.read(store, 0, PAGE), pattern(PAGE));
      assert.ok((t.write(store, 0, pattern(512)) as number) < 0);
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
        const chain = new Chain(nobody, memory);
        chain.append(0, 0, 512, writable);
        const part = new ChainTransfer().select(chain, 0, 512, writable);
        assert.equal(writable ? store.read(part, 0) : store.write(part, 0), -EFAULT);
      }
    });

    test("leaves the access time alone", () => {
      const path = makeFile("unread", PAGE);
      const longAgo = new Date("2001-01-01T00:00:00Z");
      utimesSync(path, longAgo, new Date());
      using store = fileStore(path);
      assert.equal(t.read(store, 0, 512).length, 512);
      assert.equal(statSync(path).atimeMs, longAgo.getTime());
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

    test("discards blocks: their storage is free and they read as zeros", (context) => {
      if (onTmpfs) return context.skip(`${folder} is on a tmpfs`);
      const path = makeFile("sparse", pattern(64 * PAGE));
      using store = fileStore(path);
      assert.equal(store.flush(), 0);
      const allocated = statSync(path).blocks * 512;
      assert.equal(store.discard(8 * PAGE, 32 * PAGE), 0);
      assert.ok(statSync(path).blocks * 512 <= allocated - 32 * PAGE);
      assert.equal(statSync(path).size, 64 * PAGE);
      assertBytes(t.read(store, 8 * PAGE, 32 * PAGE), new Uint8Array(32 * PAGE));
      assertBytes(t.read(store, 7 * PAGE, PAGE), pattern(64 * PAGE).slice(7 * PAGE, 8 * PAGE));
      assertBytes(t.read(store, 40 * PAGE, PAGE), pattern(64 * PAGE).slice(40 * PAGE, 41 * PAGE));
    });

    for (const unmap of [true, false]) {
      test(`writes zeros ${unmap ? "and frees" : "but keeps"} the storage`, (context) => {
        if (onTmpfs) return context.skip(`${folder} is on a tmpfs`);
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
        assertBytes(t.read(store, 0, 64 * PAGE), expected);
      });
    }

    test("writes zeros where the file system has no call for that", (context) => {
      const shm = "/dev/shm";
      try {
        if (statfsSync(shm).type !== TMPFS) return context.skip(`${shm} is no tmpfs`);
      } catch {
        return context.skip(`there is no ${shm}`);
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

    test("moves aligned buffers as they are", (context) => {
      if (missing !== null) return context.skip(missing);
      using store = fileStore(makeFile("direct", 64 * PAGE), direct);
      const data = pattern(8 * PAGE);
      const lengths = [PAGE, 3 * PAGE, 4 * PAGE];
      assert.equal(t.write(store, PAGE, data, lengths, 0), 0);
      assertBytes(t.read(store, PAGE, data.length, lengths, 0), data);
      assertBytes(
        Uint8Array.from(readFileSync(join(folder, "direct"))).slice(PAGE, 9 * PAGE),
        data,
      );
    });

    test("moves buffers that are aligned to nothing", (context) => {
      if (missing !== null) return context.skip(missing);
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
        assert.equal(t.write(store, offset, data, lengths, START + 1), 0);
        assertBytes(t.read(store, offset, length, lengths.toReversed(), START + 3), data);
      }
    });

    test("moves more unaligned buffers than one system call takes", (context) => {
      if (missing !== null) return context.skip(missing);
      using store = fileStore(makeFile("direct-many", MIB), direct);
      const lengths = Array<number>(2048).fill(3);
      const data = pattern(3 * 2048);
      assert.equal(t.write(store, 512, data, lengths), 0);
      assertBytes(t.read(store, 512, data.length, lengths), data);
    });

    test("fails beyond the end of a file that was shortened", (context) => {
      if (missing !== null) return context.skip(missing);
      const path = makeFile("direct-short", 4 * PAGE);
      using store = fileStore(path, direct);
      truncateSync(path, PAGE);
      for (const at of [0, START + 1]) {
        assert.equal(store.read(t.select([PAGE], true, at), PAGE), -EIO);
      }
    });

    test("writes zeros and flushes", (context) => {
      if (missing !== null) return context.skip(missing);
      const path = makeFile("direct-zeroes", pattern(8 * PAGE));
      using store = fileStore(path, direct);
      assert.equal(store.writeZeroes(512, PAGE, false), 0);
      assert.equal(store.flush(), 0);
      const expected = pattern(8 * PAGE);
      expected.fill(0, 512, 512 + PAGE);
      assertBytes(Uint8Array.from(readFileSync(path)), expected);
    });
  });
});
