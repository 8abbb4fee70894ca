/** Disks in memory and of nothing, and how a store is chosen. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { FileStore } from "../../devices/blk/stores/file.ts";
import { openStore, type StoreOptions } from "../../devices/blk/stores/mod.ts";
import { NullStore } from "../../devices/blk/stores/null.ts";
import { RamStore } from "../../devices/blk/stores/ram.ts";
import { parseSize } from "../../devices/size.ts";
import { WINDOW_SIZE } from "../../ffi/mod.ts";
import { assertBytes } from "../core/bytes.ts";
import { pattern } from "./blk-requests.ts";
import { TestHost } from "./host.ts";
import { MIB, PAGE, type Transfers, uneven, useFolder, useTransfers } from "./transfers.ts";

const { folder, makeFile } = useFolder();

describe("The store", () => {
  const transfers = useTransfers();
  let t: Transfers;
  before(() => {
    t = transfers.current;
  });

  describe("for memory", () => {
    const size = WINDOW_SIZE + 4 * MIB;

    test("reads and writes across windows of 1 GiB", () => {
      using store = new RamStore(size, false);
      const data = pattern(MIB);
      for (const offset of [0, WINDOW_SIZE - MIB / 2, WINDOW_SIZE - 512, size - MIB]) {
        assertBytes(t.read(store, offset, MIB), new Uint8Array(MIB), "it is empty at first");
        assert.equal(t.write(store, offset, data, uneven(MIB)), 0);
        assertBytes(t.read(store, offset, MIB, uneven(MIB).toReversed()), data);
        assert.equal(store.writeZeroes(offset, MIB), 0);
      }
    });

    test("zeroes exactly the blocks it is told to", () => {
      using store = new RamStore(size, false);
      const offset = WINDOW_SIZE - 2 * PAGE;
      const data = pattern(4 * PAGE);
      for (const act of [store.discard.bind(store), store.writeZeroes.bind(store)]) {
        assert.equal(t.write(store, offset, data), 0);
        assert.equal(act(offset + 512, 3 * PAGE), 0);
        const expected = data.slice();
        expected.fill(0, 512, 512 + 3 * PAGE);
        assertBytes(t.read(store, offset, data.length), expected);
      }
    });

    test("takes memory only for what is written", () => {
      const resident = () =>
        Number(/^RssShmem:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
      const before = resident();
      using store = new RamStore(64 * WINDOW_SIZE, false);
      assert.equal(t.write(store, 63 * WINDOW_SIZE, pattern(512)), 0);
      assert.equal(store.flush(), 0);
      assert.ok(resident() - before < 64 * MIB);
    });
  });

  test("for nothing succeed and leave the buffers as they are", () => {
    using store = new NullStore(MIB, false);
    assert.equal(t.write(store, 0, pattern(512)), 0);
    assertBytes(t.read(store, 0, 512), new Uint8Array(512).fill(0xee));
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
  const settings = {
    readOnly: false,
    direct: false,
    logicalBlockSize: 512,
    aio: "preadv",
  } as const;
  const open = (blkFile: string, over: Partial<StoreOptions> = {}) =>
    openStore({ ...settings, blkFile, ...over }, new TestHost());

  test("chooses by the name", () => {
    using ram = open("ram:1M");
    using nothing = open("null:2T");
    using file = open(makeFile("chosen", PAGE));
    assert.ok(ram instanceof RamStore && nothing instanceof NullStore && file instanceof FileStore);
    assert.deepEqual([ram.size, nothing.size, file.size], [MIB, 2 ** 41, PAGE]);
  });

  test("reaches a file of such a name by a path", () => {
    makeFile("ram:1G", PAGE);
    using store = open(join(folder, "ram:1G"));
    assert.ok(store instanceof FileStore);
    assert.equal(store.size, PAGE);
  });

  test("passes on that the disk is read-only", () => {
    for (const blkFile of ["ram:1M", "null:1M", makeFile("read-only", PAGE)]) {
      using store = open(blkFile, { readOnly: true });
      assert.equal(store.readOnly, true);
    }
  });

  test("refuses what makes no sense", () => {
    assert.throws(() => open("ram:lots"), /Cannot read "lots"/);
    assert.throws(() => open("null:"), RangeError);
    assert.throws(
      () => open("ram:1M", { aio: "io_uring" }),
      /Cannot use --aio=io_uring with "ram:1M"/,
    );
    assert.throws(() => open("ram:1M", { direct: true }), /Cannot use --direct with "ram:1M"/);
  });
});
