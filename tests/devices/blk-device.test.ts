/** The block device around its requests: options, features, config space, write cache, growth. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Static, Type } from "typebox";
import { ProtocolError } from "../../core/errors.ts";
import { mask } from "../../core/features.ts";
import blk, { blkDevice, type blkOptions } from "../../devices/blk/mod.ts";
import type { Store } from "../../devices/blk/store.ts";
import { BlkConfig, BlkFeature, RequestType, Status } from "../../devices/blk/wire.ts";
import { EIO } from "../../ffi/mod.ts";
import { DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";
import { encodeRequest, pattern } from "./blk-requests.ts";
import { TestHost } from "./host.ts";
import { MemoryStore } from "./memory-store.ts";

type Options = { -readonly [K in keyof typeof blkOptions]: Static<(typeof blkOptions)[K]> };

const defaults: Options = {
  readOnly: false,
  numQueues: 8,
  serial: "ringside",
  logicalBlockSize: 512,
  cache: "writeback",
};

async function open(store: Store, over: Partial<Options> = {}) {
  const options = { ...defaults, ...over };
  const definition = blkDevice({
    name: "test-disk",
    summary: "A disk of a test",
    options: Type.Object({}),
    open: () => store,
  });
  const host = new TestHost();
  const opened = await definition.open(options, host);
  const { queues } = definition;
  return {
    ...opened,
    offer: new Set(opened.offer),
    bytes: BlkConfig.encode(opened.config as object),
    host,
    queues: typeof queues === "function" ? queues(options) : queues,
  };
}

const hex = (bytes: Uint8Array) =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

describe("The block device", () => {
  test("has the config space that its store and options ask for", async () => {
    const store = new MemoryStore(64 * 512);
    store.physicalBlockSize = 4096;
    const { bytes } = await open(store);
    const expected = [
      "4000000000000000", // capacity: 64 sectors
      "00000000 7e000000", // size_max: none, seg_max: 126
      "0000 00 00", // geometry
      "00020000", // blk_size: 512
      "03 00 0100 00000000", // 8 logical blocks in a physical one, aligned at 0, min_io_size 1
      "01 00 0800", // write cache, 8 queues
      "00000040 20000000 08000000", // discard: 2^30 sectors, 32 segments, alignment 8 sectors
      "00000100 01000000 01 000000", // write zeroes: 65536 sectors, 1 segment, may unmap
      "00".repeat(36),
    ];
    assert.equal(hex(bytes), expected.join("").replace(/ /g, ""));
  });

  test("offers what its store can do", async () => {
    const always = ["SEG_MAX", "BLK_SIZE", "TOPOLOGY", "MQ", "FLUSH"];
    const whole = await open(new MemoryStore(4096));
    assert.deepEqual(whole.offer, new Set([...always, "CONFIG_WCE", "DISCARD", "WRITE_ZEROES"]));
    const plain = Object.assign(new MemoryStore(4096), {
      discard: undefined,
      writeZeroes: undefined,
    }) as unknown as Store;
    assert.deepEqual((await open(plain)).offer, new Set([...always, "CONFIG_WCE"]));
    const fixed = new MemoryStore(4096);
    fixed.readOnly = true;
    assert.deepEqual((await open(fixed)).offer, new Set([...always, "RO"]));
  });

  test("announces no limits for what it does not offer", async () => {
    const store = new MemoryStore(4096);
    store.readOnly = true;
    const { bytes } = await open(store);
    assert.equal(hex(bytes.subarray(36, 60)), "00".repeat(24));
  });

  test("counts capacity in sectors of 512 bytes and whole logical blocks", async () => {
    const capacity = async (size: number, logicalBlockSize: 512 | 4096) =>
      BlkConfig.decode((await open(new MemoryStore(size), { logicalBlockSize })).bytes).capacity;
    assert.equal(await capacity(5000, 512), 9n);
    assert.equal(await capacity(5000, 4096), 8n);
    assert.equal(await capacity(8192, 4096), 16n);
  });

  test("refuses a store without one whole block, and lets go of it", async () => {
    const store = new MemoryStore(4095);
    await assert.rejects(
      open(store, { logicalBlockSize: 4096 }),
      /Cannot serve a disk of 4095 bytes: a block has 4096/,
    );
    assert.deepEqual(store.log, ["dispose"]);
  });

  test("takes a serial of up to 20 bytes, not characters", async () => {
    await open(new MemoryStore(4096), { serial: "12345678901234567890" });
    const store = new MemoryStore(4096);
    await assert.rejects(open(store, { serial: "ÄÖÜäöüßÄÖÜä" }), /more than 20 bytes/);
    assert.deepEqual(store.log, ["dispose"]);
  });

  test("suggests as many queues as it is told, and has enough for a large guest", async () => {
    for (const numQueues of [1, 256]) {
      const { queues, bytes } = await open(new MemoryStore(4096), { numQueues });
      assert.equal(queues.length, Math.max(128, numQueues));
      assert.equal(BlkConfig.decode(bytes).numQueues, numQueues);
    }
  });

  test("announces that its store has grown or shrunk, in whole blocks", async () => {
    const store = new MemoryStore(8192);
    let size = 8192;
    const measured = Object.assign(store, { measure: () => size });
    const { host, device } = await open(measured, { logicalBlockSize: 4096 });
    host.tick();
    assert.deepEqual(host.updates, []);
    size = 16384 + 512;
    host.tick();
    assert.deepEqual(host.updates, [{ capacity: 32n }]);
    assert.equal(store.size, 16384);
    size = 4096;
    device.reload!();
    assert.deepEqual(host.updates[0], { capacity: 8n });
    size = 0;
    host.tick();
    assert.equal(host.updates.length, 2, "a disk without blocks is nothing to announce");
    device[Symbol.dispose]!();
    assert.equal(host.timers.size, 0);
    assert.deepEqual(store.log, ["dispose"]);
  });

  describe("with a write cache that can be switched", () => {
    const WCE = BlkConfig.offset.wce;

    /** Writes a block and tells whether it was flushed. */
    async function durable(opened: Awaited<ReturnType<typeof open>>, store: MemoryStore) {
      using guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
      const ring = new DriverRing(guest, { size: 8, at: 0 });
      const bytes = encodeRequest({ type: RequestType.OUT, data: pattern(512) });
      guest.write(0x8000, bytes);
      ring.offer([
        { address: 0x8000, length: bytes.length, writable: false },
        { address: 0x9000, length: 1, writable: true },
      ]);
      const queue = ring.queue({ base: 0 });
      assert.ok(queue.next());
      store.log.length = 0;
      assert.equal(opened.device.handle!(queue.chain, queue), 1);
      assert.deepEqual([...guest.read(0x9000, 1)], [Status.OK]);
      return store.log.includes("flush");
    }

    const FLUSH = mask(BlkFeature.FLUSH);

    test("flushes each write only when it is off", async () => {
      const store = new MemoryStore(4096);
      const opened = await open(store);
      opened.device.negotiated!(FLUSH);
      assert.equal(await durable(opened, store), false);
      opened.device.writeConfig!(WCE, Uint8Array.of(0));
      assert.deepEqual(opened.host.updates[0], { wce: 0 });
      assert.equal(await durable(opened, store), true);
      opened.device.writeConfig!(WCE, Uint8Array.of(1));
      assert.deepEqual(opened.host.updates[0], { wce: 1 });
      assert.equal(await durable(opened, store), false);
    });

    test("flushes what was written before it is switched off (B5)", async () => {
      const store = new MemoryStore(4096);
      const { device } = await open(store);
      device.negotiated!(FLUSH);
      device.writeConfig!(WCE, Uint8Array.of(0));
      assert.deepEqual(store.log, ["flush"]);
      device.writeConfig!(WCE, Uint8Array.of(0));
      device.writeConfig!(WCE, Uint8Array.of(1));
      assert.deepEqual(store.log, ["flush"], "nothing else needs a flush");
    });

    test("stays as it is when that flush fails", async () => {
      const store = new MemoryStore(4096);
      const opened = await open(store);
      opened.device.negotiated!(FLUSH);
      store.failures.set("flush", -EIO);
      assert.throws(() => opened.device.writeConfig!(WCE, Uint8Array.of(0)), ProtocolError);
      assert.equal(await durable(opened, store), false);
    });

    test("starts and is reset as the option says", async () => {
      for (const cache of ["writeback", "writethrough"] as const) {
        const store = new MemoryStore(4096);
        const opened = await open(store, { cache });
        assert.equal(opened.bytes[WCE], cache === "writeback" ? 1 : 0);
        opened.device.negotiated!(FLUSH);
        assert.equal(await durable(opened, store), cache === "writethrough");
        opened.device.writeConfig!(WCE, Uint8Array.of(cache === "writeback" ? 0 : 1));
        opened.device.reset!();
        assert.equal(await durable(opened, store), cache === "writethrough");
      }
    });

    test("is not used for a driver that cannot flush", async () => {
      const store = new MemoryStore(4096);
      const opened = await open(store);
      opened.device.negotiated!(0n);
      assert.equal(await durable(opened, store), true);
      opened.device.writeConfig!(WCE, Uint8Array.of(1));
      assert.equal(await durable(opened, store), true);
      opened.device.reset!();
      assert.equal(await durable(opened, store), true);
    });

    test("can be switched and nothing else can", async () => {
      const { device } = await open(new MemoryStore(4096));
      for (const [at, data] of [
        [0, [0, 0, 0, 0, 0, 0, 0, 0]],
        [WCE - 1, [0]],
        [WCE + 1, [0]],
        [WCE, [0, 0]],
        [WCE, []],
      ] as const) {
        assert.throws(
          () => device.writeConfig!(at, Uint8Array.from(data)),
          (error) => error instanceof ProtocolError && /write cache's byte/.test(error.message),
        );
      }
    });
  });

  test("says that it cannot open what is not there", async () => {
    const options = { ...defaults, blkFile: "/nonexistent/disk.img", direct: false };
    await assert.rejects(
      async () => blk.open(options, new TestHost()),
      /open "\/nonexistent\/disk.img" failed: no such file or directory/,
    );
  });
});
