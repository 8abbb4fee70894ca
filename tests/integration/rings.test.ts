/** The same verified disk over every kind of ring that a driver may set up. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { has, mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { O_NONBLOCK } from "../../ffi/mod.ts";
import {
  BlkDriver,
  BlkFeature,
  type BlkOptions,
  Notifier,
  ringFeatures,
} from "../../frontend/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { MIB, serveBlk, type VerifyOptions, verifyDriver } from "../support/blk.ts";
import type { Program } from "../support/program.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const without = (...bits: number[]) => ringFeatures & ~mask(...bits);
const direct = without(RingFeature.INDIRECT_DESC);
const directByFlags = without(RingFeature.INDIRECT_DESC, RingFeature.EVENT_IDX);
const byFlags = without(RingFeature.EVENT_IDX);

describe("rings of a block device", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M", ["--num-queues=4"]);
  });
  after(() => program[Symbol.dispose]());

  function verify(options: BlkOptions, what: VerifyOptions = {}): BlkDriver {
    using driver = BlkDriver.connect(program.socket, { maxBytes: 4096, ...options });
    verifyDriver(driver, { blocks: 128, mixed: 300, ...what });
    for (const vring of driver.frontend.vrings) {
      assert.equal(vring.broken(), false);
      assert.equal(driver.frontend.stopVring(vring), vring.ring.base);
    }
    return driver;
  }

  for (const ringSize of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]) {
    it(`of ${ringSize} work with indirect descriptors, by event index and by flags`, () => {
      verify({ ringSize });
      verify({ ringSize, features: byFlags, queues: 2 });
    });
    if (ringSize === 1) continue;
    it(`of ${ringSize} work with direct descriptors, by event index and by flags`, () => {
      verify({ ringSize, framing: "joined", features: direct });
      verify({ ringSize, framing: "joined", features: directByFlags, queues: 2 });
      if (ringSize >= 4) verify({ ringSize, features: direct });
    });
  }

  it("of 32768, the largest, work with thousands of requests in flight", () => {
    const large = { ringSize: 32_768, maxBytes: 512, memory: { size: 64 * MIB } };
    const what = { blockSize: 512, blocks: 16_384, mixed: 20_000 };
    verify({ ...large, depth: 6000 }, what);
    verify({ ...large, depth: 6000, features: direct }, what);
  });

  it("take requests cut in any way", () => {
    verify({ framing: "scattered", pieceSize: 512 });
    verify({ framing: "scattered", pieceSize: 100, ringSize: 256, features: direct });
    verify({ framing: "classic", pieceSize: 36 });
    verify({ framing: "joined" });
  });

  for (const ringSize of [1, 2, 4, 16, 128, 1024]) {
    it(`of ${ringSize} work in big-endian byte order, as drivers before virtio 1.0 have them`, () => {
      const legacy = (...bits: number[]) => without(RingFeature.VERSION_1, ...bits);
      const old = { ringSize, vring: { bigEndian: true } };
      const { INDIRECT_DESC, EVENT_IDX } = RingFeature;
      verify({ ...old, features: legacy() });
      verify({ ...old, features: legacy(EVENT_IDX), queues: 2 });
      if (ringSize === 1) return;
      verify({ ...old, framing: "joined", features: legacy(INDIRECT_DESC) });
      verify({ ...old, framing: "joined", features: legacy(INDIRECT_DESC, EVENT_IDX), queues: 2 });
      if (ringSize < 4) return;
      verify({ ...old, features: legacy(INDIRECT_DESC), order: "owner-first" });
      verify({ ...old, framing: "scattered", pieceSize: 512, features: legacy() });
    });
  }

  it("have device headers in big-endian byte order, too", () => {
    const features =
      without(RingFeature.VERSION_1) | mask(BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES);
    using driver = BlkDriver.connect(program.socket, { features, vring: { bigEndian: true } });
    driver.write(0, new Uint8Array(64 * 512).fill(0xaa));
    driver.writeZeroes([{ sector: 8, sectors: 8 }]);
    driver.discard([
      { sector: 24, sectors: 8 },
      { sector: 40, sectors: 16 },
    ]);
    const read = driver.read(0, 64 * 512);
    const set = Array.from({ length: 64 }, (_, sector) => read[sector * 512] === 0xaa);
    const cleared = [8, 24, 40, 48].flatMap((from) =>
      Array.from({ length: 8 }, (_, i) => from + i),
    );
    assert.deepEqual(
      set.flatMap((is, sector) => (is ? [] : [sector])),
      cleared,
    );
    assert.equal(driver.frontend.vrings[0]!.broken(), false);
  });

  const packed = { packed: true } as const;
  for (const ringSize of [1, 2, 3, 4, 5, 7, 8, 16, 30, 64, 100, 128, 256, 1000]) {
    it(`of ${ringSize} work packed, by event index and by flags`, () => {
      verify({ ...packed, ringSize });
      verify({ ...packed, ringSize, features: byFlags, queues: 2 });
      if (ringSize === 1) return;
      verify({ ...packed, ringSize, framing: "joined", features: direct });
      verify({ ...packed, ringSize, framing: "joined", features: directByFlags, queues: 2 });
      if (ringSize >= 4) verify({ ...packed, ringSize, features: direct });
    });
  }

  it("of 32768, the largest, work packed", () => {
    const large = { ...packed, ringSize: 32_768, maxBytes: 512, memory: { size: 64 * MIB } };
    const what = { blockSize: 512, blocks: 16_384, mixed: 20_000 };
    verify({ ...large, depth: 6000 }, what);
    verify({ ...large, depth: 6000, features: direct }, what);
  });

  it("take packed requests cut in any way, polled, and in another order of messages", () => {
    verify({ ...packed, framing: "scattered", pieceSize: 512 });
    verify({ ...packed, framing: "scattered", pieceSize: 100, ringSize: 201, features: direct });
    verify({ ...packed, framing: "joined" });
    verify({ ...packed, vring: { calls: false } });
    verify({ ...packed, vring: { kicks: false } }, { mixed: 50 });
    verify({ ...packed, order: "owner-first", queues: 4 });
    verify({ ...packed, protocol: null, queues: 2 });
    const wrapped = { base: 0x7fff_7fff & ((99 << 16) | 99) };
    verify({ ...packed, ringSize: 100, vring: wrapped });
  });

  for (const [name, features] of Object.entries({ "event index": ringFeatures, flags: byFlags })) {
    it(`go on when their indices wrap at 65536, by ${name}`, () => {
      const mixed = full ? 200_000 : 2000;
      for (const base of [65_535, 65_500, 65_024]) {
        verify({ features, vring: { base } }, { mixed });
      }
    });
  }

  it("are kicked seldom while they are busy", () => {
    using driver = BlkDriver.connect(program.socket, { maxBytes: 4096, depth: 64 });
    verifyDriver(driver, { blocks: 512, mixed: 20_000 });
    const [vring] = driver.frontend.vrings;
    assert.ok(vring!.kicks < 10_000, `${vring!.kicks} kicks for 21024 requests`);
  });

  it("are polled by the driver when there is no call descriptor", () => {
    verify({ vring: { calls: false } });
    verify({ vring: { calls: false }, features: byFlags, queues: 2 });
  });

  it("are polled by the device when there is no kick descriptor", () => {
    verify({ vring: { kicks: false } }, { mixed: 50 });
  });

  it("are notified by pipes as well as by eventfds", () => {
    const notifier = (): Notifier => {
      const { writer, reader } = createPipe(O_NONBLOCK);
      return new Notifier(writer, reader);
    };
    verify({ vring: { notifier }, queues: 2 });
    verify({ vring: { notifier }, features: byFlags });
  });

  it("of drivers before virtio 1.0 work", () => {
    const features = without(RingFeature.VERSION_1);
    using driver = verify({ features });
    const { place } = driver.frontend.vrings[0]!.ring;
    assert.equal(has(driver.frontend.features, RingFeature.VERSION_1), false);
    assert.equal(place.used % 4096, 0);
    assert.notEqual(place.used, place.available + 6 + 2 * 128);
    verify({ features: features & byFlags & direct, ringSize: 256 });
    verify({ features: 0n });
  });

  it("of front-ends that know no protocol features are enabled from the start", () => {
    using driver = verify({ protocol: null, queues: 2 });
    assert.equal(has(driver.frontend.features, VhostFeature.PROTOCOL_FEATURES), false);
    verify({ protocol: null, features: 0n });
  });

  it("may be set up in another order of messages", () => {
    verify({ order: "owner-first", queues: 4 });
    verify({ order: "owner-first", protocol: 0n });
  });

  it("may have their parts in different memory regions", () => {
    using driver = BlkDriver.connect(program.socket, {
      maxBytes: 4096,
      memory: { regions: 3, size: 4 * MIB, margin: 65_536 },
    });
    const { frontend } = driver;
    const [one, two, three] = frontend.memory.regions.map(({ plan }) => plan.guestAddress);
    const place = { descriptor: three! + 512, available: one! + 4098, used: two! + 4 };
    const vring = frontend.addVring(1, { size: 64, place });
    frontend.startVrings([vring], [0]);
    const buffer = frontend.memory.allocate(512 + 16 + 1);
    frontend.memory.bytes(buffer + 512, 17).fill(0xee);
    frontend.memory.bytes(buffer + 512, 16).fill(0);
    vring.ring.push(buffer + 512, 16, false);
    vring.ring.push(buffer, 512, true);
    vring.ring.push(buffer + 528, 1, true);
    vring.ring.add(5);
    vring.publish();
    assert.ok(vring.wait() && vring.ring.next());
    assert.deepEqual([vring.ring.token, vring.ring.written], [5, 513]);
    assert.equal(frontend.memory.read(buffer + 528, 1)[0], 0);
  });
});
