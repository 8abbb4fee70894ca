import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { RngDriver, type RngOptions, ringFeatures } from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";

describe("the entropy device", () => {
  let program: Program;
  before(() => {
    program = new Program([launcher("vhost-user-rng"), "--socket-path=SOCKET"]);
  });
  after(() => program[Symbol.dispose]());
  const connect = (options?: RngOptions) => RngDriver.connect(program.socket, options);

  it("fills buffers of any size and number, on a ring of four", () => {
    using driver = connect({ maxBytes: 300_000 });
    for (const length of [1, 7, 64, 4096, 65_536, 65_537, 300_000]) {
      assert.equal(driver.read(length).length, length);
    }
    assert.equal(driver.read(4000, 4).length, 4000);
  });

  it("fills them with random bytes", () => {
    using driver = connect({ maxBytes: 65_536 });
    const counts = new Uint32Array(256);
    for (const byte of driver.read(65_536)) counts[byte]!++;
    // 256 times each, give or take 16; 10 times that never happens by chance.
    assert.ok(
      counts.every((count) => count > 96 && count < 416),
      counts.join(),
    );
    const seen = new Set<string>();
    for (let i = 0; i < 1000; i++) seen.add(driver.read(8).join());
    assert.equal(seen.size, 1000, "no answer comes twice");
  });

  it("goes on where the indices wrap, by event index and by flags", () => {
    for (const features of [ringFeatures, ringFeatures & ~mask(RingFeature.EVENT_IDX), 0n]) {
      using driver = connect({ features });
      for (let i = 0; i < 70_000; i += 1) {
        // Nothing but the count matters here.
        if (driver.read(1).length !== 1) assert.fail(`request ${i}`);
      }
    }
  });

  it("writes nothing into buffers that are for reading", () => {
    using driver = connect();
    const request = new Uint8Array(64).fill(9);
    assert.equal(driver.queue.exchange(request, 32).length, 32);
    assert.equal(driver.queue.exchange(request, 0).length, 0);
  });
});
