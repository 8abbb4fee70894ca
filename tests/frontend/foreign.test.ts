/**
 * The front-end against a back-end that shares no code with it: QEMU's own. It proves that the
 * front-end speaks vhost-user and not a dialect of this project.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { has, mask, RingFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import {
  BlkDriver,
  BlkFeature,
  type BlkOptions,
  BlkRequest,
  BlkStatus,
  Journal,
  ringFeatures,
  runWorkload,
} from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { Program } from "../support/program.ts";
import { skipWithout } from "../support/requirements.ts";

const PROGRAM = process.env.RINGSIDE_STORAGE_DAEMON ?? "qemu-storage-daemon";
const SIZE = 16 * 2 ** 20;
const BLOCK = 4096;

function serve(folder: Folder, image: string): Program {
  const disk = `driver=file,node-name=disk,filename=${image},discard=unmap`;
  const address = "addr.type=unix,addr.path=SOCKET";
  const device = `vhost-user-blk,id=export,node-name=disk,${address},writable=on,num-queues=4`;
  return new Program([PROGRAM, "--blockdev", disk, "--export", device], { folder });
}

describe("the front-end against qemu-storage-daemon", {
  skip: skipWithout(PROGRAM, "Debian has it in qemu-utils or qemu-system-common"),
}, () => {
  let folder: Folder;
  let program: Program;
  before(() => {
    folder = new Folder();
    program = serve(folder, folder.image(SIZE));
  });
  after(() => {
    program[Symbol.dispose]();
    folder[Symbol.dispose]();
  });
  const connect = (options?: BlkOptions) => BlkDriver.connect(program.socket, options);

  /** Writes all blocks, overwrites some, and compares everything. */
  function verify(options: BlkOptions): void {
    using driver = connect(options);
    const blocks = 1024;
    const journal = new Journal(BLOCK, blocks);
    const whole = { order: "sequential", blocks, journal, requests: blocks } as const;
    runWorkload(driver, { operation: "write", ...whole });
    runWorkload(driver, { operation: "mixed", order: "random", blocks, journal, requests: 2000 });
    const result = runWorkload(driver, { operation: "read", ...whole });
    const { requests, failed, wrong, oddLengths } = result;
    assert.deepEqual([requests, failed, wrong, oddLengths], [blocks, 0, 0, 0]);
    driver.frontend.stop();
  }

  it("negotiates what both sides know", () => {
    using driver = connect();
    const { agreed, features } = driver.frontend;
    assert.equal(agreed.queues, 4);
    for (const feature of [ProtocolFeature.CONFIG, ProtocolFeature.REPLY_ACK]) {
      assert.ok(has(agreed.protocol, feature));
    }
    assert.equal(features & ringFeatures, ringFeatures);
    assert.ok(has(features, BlkFeature.FLUSH));
  });

  it("reads the config space and the identifier", () => {
    using driver = connect();
    const config = driver.config();
    assert.deepEqual([config.capacity, config.blockSize, config.queues], [32768n, 512, 4]);
    assert.match(new TextDecoder().decode(driver.id()), /^vhost_user_blk\0*/);
  });

  it("carries out each request", () => {
    using driver = connect();
    const data = Uint8Array.from({ length: 4096 }, (_, i) => i % 251);
    driver.write(64, data);
    driver.flush();
    assert.deepEqual(driver.read(64, 4096), data);
    assert.deepEqual(folder.read("disk.img", 64 * 512, 4096), data);
    driver.writeZeroes([{ sector: 65, sectors: 2 }]);
    const zeroed = data.slice().fill(0, 512, 1536);
    assert.deepEqual(driver.read(64, 4096), zeroed);
    driver.discard([{ sector: 64, sectors: 8 }]);
    assert.deepEqual(driver.read(64, 4096), new Uint8Array(4096));
  });

  it("gets an error for what is outside of the disk, and for what nobody knows", () => {
    using driver = connect();
    assert.equal(driver.request(BlkRequest.IN, SIZE / 512, 512), BlkStatus.IOERR);
    assert.equal(driver.request(99, 0, 512), BlkStatus.UNSUPP);
  });

  const variants: Readonly<Record<string, BlkOptions>> = {
    "one queue": {},
    "four queues": { queues: 4 },
    "direct descriptors": { features: ringFeatures & ~mask(RingFeature.INDIRECT_DESC) },
    "no EVENT_IDX": { features: ringFeatures & ~mask(RingFeature.EVENT_IDX), queues: 2 },
    "no protocol features": { protocol: null },
    "no acknowledgements": { protocol: mask(ProtocolFeature.CONFIG) },
    "the other order of messages": { order: "owner-first", queues: 2 },
    "memory in one table of several regions": {
      share: "table",
      memory: { regions: 4, size: 4 * 2 ** 20, oneFile: true },
    },
    "memory region by region": { share: "slots", memory: { regions: 4, size: 4 * 2 ** 20 } },
    "requests in many pieces": { framing: "scattered", pieceSize: 512, ringSize: 256 },
    "requests in two pieces": { framing: "joined" },
  };
  for (const [name, options] of Object.entries(variants)) {
    it(`verifies data with ${name}`, () => verify(options));
  }

  it("stops a ring and goes on with it", () => {
    using driver = connect();
    const { frontend } = driver;
    const [vring] = frontend.vrings;
    driver.write(0, new Uint8Array(512).fill(1));
    for (let round = 0; round < 3; round++) {
      const base = frontend.stopVring(vring!);
      assert.equal(base, vring!.ring.availableIndex);
      frontend.startVrings([vring!], [base]);
      assert.deepEqual(driver.read(0, 512), new Uint8Array(512).fill(1));
    }
  });
});
