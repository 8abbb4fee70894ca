/** Guest memory in many regions, and regions that come and go while requests are in flight. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import {
  BlkDriver,
  BlkRequest,
  BlkStatus,
  type GuestRegion,
  Journal,
  protocolFeatures,
} from "../../frontend/mod.ts";
import { BLOCK, blank, drain, MIB, serveBlk, verifyDriver, verifySocket } from "../support/blk.ts";
import { mappingsOf, openFiles, vmSize } from "../support/process-status.ts";
import type { Program } from "../support/program.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const REGION = 4 * MIB;
/** How guest memory shows in the back-end's list of mappings. */
const GUEST = "/memfd:ringside-guest";

const noSlots = protocolFeatures & ~mask(ProtocolFeature.CONFIGURE_MEM_SLOTS);

describe("guest memory", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M");
  });
  after(() => program[Symbol.dispose]());

  for (const oneFile of [false, true]) {
    const files = oneFile ? "one file" : "a file each";
    it(`of 8 regions in ${files} is shared in one table`, () => {
      const memory = { regions: 8, size: MIB, oneFile };
      verifySocket(program.socket, { memory, share: "table", maxBytes: BLOCK });
      verifySocket(program.socket, { memory, protocol: noSlots, maxBytes: BLOCK });
      verifySocket(program.socket, { memory, protocol: null, maxBytes: BLOCK });
    });

    it(`of 40 regions in ${files} is shared region by region`, () => {
      const memory = { regions: 40, size: MIB, oneFile };
      verifySocket(program.socket, { memory, share: "slots", maxBytes: BLOCK });
    });
  }

  it("may have as many regions as the back-end says", () => {
    using driver = BlkDriver.connect(program.socket, {
      memory: { regions: 1, size: 8 * MIB },
      share: "slots",
      maxBytes: BLOCK,
    });
    const { frontend, queues } = driver;
    const slots = frontend.agreed.memorySlots!;
    assert.ok(slots >= 509);
    let last: GuestRegion | null = null;
    while (frontend.memory.regions.length < slots) last = frontend.addRegion(4096);
    assert.equal(mappingsOf(program.pid, GUEST), slots);
    assert.throws(() => frontend.addRegion(4096), { fault: "refused" });
    readInto(driver, last!.plan.guestAddress, 0, 4096);
    assert.equal(queues[0]!.inFlight, 0);
  });

  /** Writes a pattern to sector 0 on and reads it back into guest memory at `address`. */
  function readInto(driver: BlkDriver, address: number, shift: number, length: number): void {
    const data = Uint8Array.from({ length }, (_, i) => (i + shift + (i >> 8)) & 0xff);
    driver.write(0, data);
    const [queue] = driver.queues;
    const slot = queue!.acquire();
    driver.frontend.memory.write(address, new Uint8Array(length));
    queue!.place(slot, address);
    queue!.submit(slot, BlkRequest.IN, 0, length);
    queue!.publish();
    assert.ok(queue!.wait());
    assert.equal(queue!.take(), slot);
    assert.equal(queue!.status(slot), BlkStatus.OK);
    assert.deepEqual(driver.frontend.memory.read(address, length), data);
    queue!.release(slot);
  }

  it("holds buffers that lie across two and more regions", () => {
    for (const oneFile of [false, true]) {
      // Regions of 16 KiB with nothing but the buffers, after the one that holds everything else.
      using driver = BlkDriver.connect(program.socket, { memory: { size: REGION, oneFile } });
      const { frontend } = driver;
      const small = Array.from({ length: 6 }, () => frontend.addRegion(16_384));
      const [first, second] = small;
      for (const [before, length] of [
        [1, 512],
        [256, 512],
        [511, 512],
        [4096, 65_536],
        [16_384 + 4096, 16_384],
      ] as const) {
        const address = second!.plan.guestAddress - before;
        if (address >= first!.plan.guestAddress) readInto(driver, address, before, length);
      }
      readInto(driver, first!.plan.guestAddress + 100, 3, 65_536);
      // Out of guest memory, and into it from outside of the file's end.
      const data = Uint8Array.from({ length: 65_536 }, (_, i) => (i * 3) & 0xff);
      const from = first!.end - 700;
      frontend.memory.write(from, data);
      const [queue] = driver.queues;
      const slot = queue!.acquire();
      queue!.place(slot, from);
      queue!.submit(slot, BlkRequest.OUT, 128, data.length);
      queue!.publish();
      assert.ok(queue!.wait());
      assert.equal(queue!.status(queue!.take()), BlkStatus.OK);
      assert.deepEqual(driver.read(128, data.length), data);
    }
  });

  /** Keeps requests in flight while `change` sends messages, and verifies what they read. */
  function whileBusy(driver: BlkDriver, rounds: number, change: (round: number) => void): void {
    const journal = new Journal(BLOCK, 512);
    const [queue] = driver.queues;
    const blocks = new Map<number, { block: number; read: boolean }>();
    let submitted = 0;
    const check = (slot: number): void => {
      const { block, read } = blocks.get(slot)!;
      assert.equal(queue!.status(slot), BlkStatus.OK);
      if (read) assert.ok(journal.matches(block, queue!.words(slot)), `block ${block}`);
      journal.done(block);
    };
    for (let round = 0; round < rounds; round++) {
      for (let slot = queue!.acquire(); slot >= 0; slot = queue!.acquire()) {
        const block = journal.take((submitted * 37) % 512);
        const read = submitted++ % 2 === 1;
        blocks.set(slot, { block, read });
        if (!read) journal.write(block, queue!.words(slot));
        queue!.submit(slot, read ? BlkRequest.IN : BlkRequest.OUT, block * 8, BLOCK);
      }
      queue!.publish();
      change(round);
      drain(queue!, check);
    }
  }

  it("grows and shrinks while requests are in flight", () => {
    using driver = BlkDriver.connect(program.socket, { share: "slots" });
    const { frontend } = driver;
    let region: GuestRegion | null = null;
    blank(driver);
    whileBusy(driver, 100, () => {
      if (region === null) region = frontend.addRegion(MIB);
      else {
        frontend.removeRegion(region);
        region = null;
      }
    });
    assert.equal(mappingsOf(program.pid, GUEST), 1);
    verifyDriver(driver);
  });

  it("is replaced while requests are in flight, and leaves nothing behind", () => {
    using driver = BlkDriver.connect(program.socket, { share: "table" });
    const { frontend } = driver;
    blank(driver);
    whileBusy(driver, 20, () => frontend.replaceMemory());
    // The descriptors of a message are closed after it was acknowledged.
    frontend.barrier();
    const files = openFiles(program.pid);
    const size = vmSize(program.pid);
    let extra: GuestRegion | null = null;
    whileBusy(driver, full ? 10_000 : 200, () => {
      if (extra === null) {
        extra = frontend.memory.append(MIB);
        frontend.replaceMemory();
        assert.equal(mappingsOf(program.pid, GUEST), 2);
      } else {
        frontend.memory.remove(extra);
        frontend.replaceMemory();
        extra[Symbol.dispose]();
        extra = null;
      }
    });
    frontend.barrier();
    assert.deepEqual(openFiles(program.pid), files);
    assert.equal(mappingsOf(program.pid, GUEST), 1);
    assert.ok(vmSize(program.pid) < size + 64 * 1024, "the address space does not grow");
    verifyDriver(driver);
  });

  it("is given back when the front-end goes", () => {
    {
      const memory = { regions: 6, size: MIB };
      using driver = BlkDriver.connect(program.socket, { memory, maxBytes: BLOCK });
      assert.equal(mappingsOf(program.pid, GUEST), 6);
      assert.equal(driver.frontend.memory.regions.length, 6);
    }
    // The next connection is served after the last one is released.
    using _next = BlkDriver.connect(program.socket);
    assert.equal(mappingsOf(program.pid, GUEST), 1);
  });
});
