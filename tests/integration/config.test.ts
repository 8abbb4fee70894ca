/** Config space: of any size, and written by the driver where that is allowed. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ConfigFlag } from "../../core/protocol.ts";
import { BlkConfigSpace, BlkDriver, Frontend } from "../../frontend/mod.ts";
import { MIB, serveBlk } from "../support/blk.ts";
import type { Program } from "../support/program.ts";

const SIZE = 8 * MIB;
const { offset } = BlkConfigSpace;

describe("config space", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M", ["--num-queues=3"]);
  });
  after(() => program[Symbol.dispose]());
  const open = () => Frontend.open(program.socket);

  it("is answered in any size that front-ends ask for, with zeros past its end", () => {
    using frontend = open();
    const whole = frontend.getConfig(0, 256)!;
    assert.equal(whole.length, 256);
    for (const size of [1, 8, 36, 60, 72, 96, 97, 128, 255]) {
      assert.deepEqual(frontend.getConfig(0, size), whole.slice(0, size));
    }
    assert.deepEqual(whole.slice(96), new Uint8Array(160));
  });

  it("describes the disk", () => {
    using driver = BlkDriver.connect(program.socket);
    const config = driver.config();
    assert.equal(config.capacity, BigInt(SIZE / 512));
    assert.equal(driver.size(), SIZE);
    assert.equal(config.blockSize, 512);
    assert.equal(config.queues, 3);
    assert.equal(config.writeback, 1);
    assert.equal(config.writeZeroesMayUnmap, 1);
    assert.ok(config.maxDiscardSectors > 0 && config.maxDiscardRanges > 0);
    assert.equal(512 << config.physicalBlockExponent, 4096);
  });

  it("can be read from any offset", () => {
    using frontend = open();
    const whole = frontend.getConfig(0, 256)!;
    for (const [at, size] of [
      [offset.queues, 2],
      [offset.writeback, 1],
      [95, 161],
      [96, 4],
      [255, 1],
    ] as const) {
      assert.deepEqual(frontend.getConfig(at, size), whole.slice(at, at + size));
    }
  });

  it("cannot be read past 256 bytes, which is said by an empty reply", () => {
    using frontend = open();
    for (const [at, size] of [
      [0, 0],
      [1, 256],
      [256, 1],
      [0xffff_ffff, 1],
      [0xffff_fff0, 32],
    ] as const) {
      assert.equal(frontend.getConfig(at, size), null, `${size} bytes at ${at}`);
    }
    assert.notEqual(frontend.getConfig(0, 60), null, "and the connection goes on");
  });

  it("lets the driver switch the write cache, until it resets the device", () => {
    using driver = BlkDriver.connect(program.socket);
    for (const on of [false, false, true, false]) {
      driver.setWriteback(on);
      assert.equal(driver.config().writeback, on ? 1 : 0);
    }
    driver.frontend.resetDevice();
    assert.equal(driver.config().writeback, 1);
  });

  it("lets the driver write nothing else", () => {
    using frontend = open();
    const before = frontend.getConfig(0, 256);
    for (const [at, size] of [
      [offset.capacity, 8],
      [offset.blockSize, 4],
      [offset.queues, 2],
      [offset.writeback, 2],
      [100, 1],
    ] as const) {
      const data = new Uint8Array(size).fill(7);
      assert.throws(() => frontend.setConfig(at, data), { fault: "refused" }, `${size} at ${at}`);
    }
    assert.deepEqual(frontend.getConfig(0, 256), before);
  });

  it("takes from a migration what it has already, and nothing that differs", () => {
    using frontend = open();
    const now = frontend.getConfig(0, 60)!;
    frontend.setConfig(0, now, ConfigFlag.MIGRATION);
    const other = now.slice();
    other[0]! ^= 1;
    assert.throws(() => frontend.setConfig(0, other, ConfigFlag.MIGRATION), { fault: "refused" });
    assert.throws(() => frontend.setConfig(0, now, 2), { fault: "refused" });
  });
});
