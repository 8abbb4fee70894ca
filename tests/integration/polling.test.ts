/** The program while it looks for requests instead of sleeping. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { BlkDriver, BlkRequest, ringFeatures } from "../../frontend/mod.ts";
import { BLOCK, drain, serveBlk, verifyDriver, verifySocket } from "../support/blk.ts";

const packed = ringFeatures | mask(RingFeature.RING_PACKED);

describe("a program that polls", () => {
  it("keeps what is written", () => {
    using program = serveBlk("ram:8M", ["--poll-us=2000"]);
    verifySocket(program.socket, { queues: 3 });
    verifySocket(program.socket, { features: packed });
    verifySocket(program.socket, { features: mask(RingFeature.VERSION_1), depth: 1 });
    verifySocket(program.socket, { share: "slots", queues: 2 });
  });

  it("stops and goes on with its rings, and gives memory back", () => {
    using program = serveBlk("ram:8M", ["--poll-us=100000"]);
    using driver = BlkDriver.connect(program.socket, { queues: 2 });
    const [queue] = driver.queues;
    for (let round = 0; round < 10; round++) {
      verifyDriver(driver, { blocks: 32, mixed: 100 });
      driver.frontend.replaceMemory();
      const base = driver.frontend.stopVring(queue!.vring);
      driver.frontend.startVrings([queue!.vring], [base]);
      queue!.submit(queue!.acquire(), BlkRequest.IN, 0, BLOCK);
      queue!.publish();
      drain(queue!);
    }
  });

  it("ends on SIGTERM while it does", () => {
    using program = serveBlk("ram:8M", ["--poll-us=1000000"]);
    using driver = BlkDriver.connect(program.socket);
    verifyDriver(driver);
    assert.ok(program.stop("SIGTERM"));
  });

  it("can be told not to", () => {
    using program = serveBlk("ram:8M", ["--poll-us=0"]);
    verifySocket(program.socket);
  });
});
