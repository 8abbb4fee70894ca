/** The network device with a plug that leads back: what is sent comes back, byte for byte. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import {
  NetDriver,
  NetFeature,
  type NetOptions,
  netFeatures,
  netProtocol,
  sendRarp,
  setMtu,
} from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";
import { makeFrame } from "./frames.ts";

const LENGTHS = [14, 15, 60, 64, 65, 191, 192, 193, 1514, 1515, 9000, 65_553];

describe("the network device in a loop", () => {
  let program: Program;
  before(() => {
    program = new Program([
      launcher("vhost-user-net"),
      "--loopback",
      "--queue-pairs=2",
      "--mac=52:54:00:12:34:56",
      "--speed=10000",
      "--socket-path=SOCKET",
    ]);
  });
  after(() => program[Symbol.dispose]());
  const connect = (options?: NetOptions) => NetDriver.connect(program.socket, options);

  function check(driver: NetDriver, lengths: readonly number[], pieces?: readonly number[]) {
    for (const [i, length] of lengths.entries()) {
      const pair = driver.pairs[i % driver.pairs.length]!;
      const frame = makeFrame(length, i);
      pair.send(frame, pieces === undefined ? {} : { pieces });
      const got = pair.receive();
      assert.deepEqual(got?.data, frame, `${length} bytes`);
      assert.equal(got.header.flags | got.header.gsoType, 0);
    }
  }

  const kinds: readonly [string, bigint][] = [
    ["split", netFeatures],
    ["split, without events", netFeatures & ~mask(RingFeature.EVENT_IDX)],
    ["split, in order", netFeatures | mask(RingFeature.IN_ORDER)],
    ["packed", netFeatures | mask(RingFeature.RING_PACKED)],
    ["packed, in order", netFeatures | mask(RingFeature.RING_PACKED, RingFeature.IN_ORDER)],
  ];
  for (const [name, features] of kinds) {
    it(`carries frames of all lengths in merged buffers: ${name}`, () => {
      using driver = connect({ features, pairs: 2 });
      check(driver, LENGTHS);
      check(driver, LENGTHS, [5, 5, 2, 3, 1]);
      check(driver, LENGTHS.slice(0, 10), [13, 20]);
    });

    it(`carries them in buffers of odd sizes: ${name}`, () => {
      using driver = connect({ features, bufferSize: 61, ringSize: 64 });
      check(driver, [14, 48, 49, 50, 60, 110, 111, 1514, 3000]);
    });

    it(`carries them in single buffers: ${name}`, () => {
      const single = features & ~mask(NetFeature.MRG_RXBUF);
      using driver = connect({ features: single, bufferSize: 65_600, ringSize: 32 });
      check(driver, LENGTHS);
    });
  }

  it("uses the short header with drivers from before virtio 1.0", () => {
    using driver = connect({ features: 0n, bufferSize: 70_000, ringSize: 16 });
    check(driver, LENGTHS);
  });

  it("drops what does not fit and goes on when there is room again", () => {
    using driver = connect({ buffers: 4, ringSize: 16 });
    const { pair } = driver;
    // More than four buffers hold, then three frames of one buffer each.
    pair.send(makeFrame(9000, 1));
    for (let i = 0; i < 6; i++) pair.send(makeFrame(100, i));
    const kept = Array.from({ length: 4 }, () => pair.receive(2000, true)!.data);
    assert.deepEqual(
      kept,
      [0, 1, 2, 3].map((i) => makeFrame(100, i)),
    );
    assert.equal(pair.receive(50), null);
    pair.fill(4);
    driver.frontend.barrier();
    pair.send(makeFrame(5000, 9));
    assert.deepEqual(pair.receive()?.data, makeFrame(5000, 9));
  });

  it("keeps the order of many frames where indices wrap", () => {
    for (const [, features] of kinds) {
      using driver = connect({ features, ringSize: 32 });
      const { pair } = driver;
      for (let i = 0; i < 3000; i++) {
        const burst = 1 + (i % 7);
        for (let j = 0; j < burst; j++) assert.ok(pair.push(makeFrame(60 + j, i + j)));
        pair.tx.publish();
        for (let j = 0; j < burst; j++) {
          const got = pair.receive();
          assert.deepEqual(got?.data, makeFrame(60 + j, i + j));
        }
        pair.sent();
      }
    }
  });

  it("goes on after its rings were stopped, and after a reconnect", () => {
    using driver = connect();
    check(driver, [100]);
    const bases = driver.frontend.stop();
    driver.frontend.start(bases);
    check(driver, [200, 9000]);
    driver.frontend.reconnect();
    check(driver, [300, 9000]);
  });

  it("tells its address, its queues and its link", () => {
    using driver = connect();
    const { mac, maxPairs, status, speed, duplex } = driver.config();
    assert.deepEqual(mac, Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56));
    assert.deepEqual([maxPairs, status, speed, duplex], [2, 1, 10_000, 1]);
  });

  it("announces an interface by RARP", () => {
    using driver = connect({ protocol: netProtocol });
    sendRarp(driver.frontend.connection, Uint8Array.of(2, 3, 4, 5, 6, 7));
    const { data } = driver.pair.receive()!;
    assert.equal(
      Buffer.from(data).toString("hex"),
      "ffffffffffff020304050607803500010800060400030203040506070000000002030405060700000000" +
        "000000000000000000000000000000000000",
    );
  });

  it("takes an MTU, and delivers no longer frames in one piece", () => {
    using driver = connect({ protocol: netProtocol });
    setMtu(driver.frontend.connection, 1500);
    driver.frontend.barrier();
    const { pair } = driver;
    pair.send(makeFrame(1519));
    pair.send(makeFrame(1518));
    assert.equal(pair.receive()?.data.length, 1518);
    for (const wrong of [0, 67, 65_536]) {
      assert.throws(() => setMtu(driver.frontend.connection, wrong), /refused|MTU/);
    }
  });
});
