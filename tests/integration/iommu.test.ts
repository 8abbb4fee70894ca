/** A disk behind an IOMMU (ACCESS_PLATFORM), and one whose addresses are guest-physical (GPA_ADDRESSES). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { has, mask, RingFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import {
  BlkDriver,
  type BlkOptions,
  BlkRequest,
  BlkStatus,
  type Iommu,
  type IotlbRequest,
  Permission,
  protocolFeatures,
  ringFeatures,
  runWorkload,
} from "../../frontend/mod.ts";
import { assertClean, compare, drain, MIB, serveBlk, verifyDriver } from "../support/blk.ts";
import { launcher, Program, root, until } from "../support/program.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const PAGE = 4096;
const direct = ringFeatures & ~mask(RingFeature.INDIRECT_DESC);
const packed = ringFeatures | mask(RingFeature.RING_PACKED);
const gpa = protocolFeatures | mask(ProtocolFeature.GPA_ADDRESSES);

/** The IOMMU of a driver that has one. */
const iommuOf = (driver: BlkDriver): Iommu => driver.frontend.iommu!;

/** Answers the back-end until something has happened. */
function serveUntil(
  driver: BlkDriver,
  happened: () => boolean,
  what: string,
  limit?: number,
): void {
  const probe = () => {
    iommuOf(driver).serve();
    return happened() ? true : null;
  };
  until(probe, what, limit);
}

describe("a disk behind an IOMMU", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M", ["--num-queues=4", "--iommu"]);
  });
  after(() => program[Symbol.dispose]());

  const connect = (options: BlkOptions = {}) =>
    BlkDriver.connect(program.socket, { iommu: {}, ...options });

  /** Every page is asked for at most once for each kind of access, unless it is taken away. */
  function assertOnce(iommu: Iommu): void {
    const pages = iommu.misses.map(
      ({ address, permission }) => `${Math.floor(address / iommu.pageSize)} ${permission}`,
    );
    assert.ok(pages.length > 0, "there are misses");
    assert.equal(new Set(pages).size, pages.length, "nothing is asked for twice");
  }

  const kinds: Record<string, BlkOptions> = {
    "with entries of 4 KiB": { maxBytes: PAGE },
    "on two queues": { queues: 2, maxBytes: PAGE },
    "with requests that cross many entries": { maxBytes: 65_536, framing: "joined" },
    "with a large ring of direct descriptors": { ringSize: 1024, features: direct, maxBytes: PAGE },
    "with pieces": { framing: "scattered", pieceSize: 100, maxBytes: PAGE, ringSize: 256 },
    "with entries of 2 MiB": { iommu: { pageSize: 2 * MIB, offset: 2 ** 40 } },
    "at the guest's own addresses": { iommu: { offset: 0 } },
    "over several regions": { memory: { regions: 4, size: MIB }, maxBytes: PAGE, depth: 16 },
    "with guest-physical entries": { protocol: gpa, queues: 2 },
    "with packed rings": { queues: 2, maxBytes: PAGE, features: packed },
    "with packed rings of direct descriptors": {
      ...{ queues: 2, ringSize: 1000, maxBytes: 16_384 },
      features: packed & ~mask(RingFeature.INDIRECT_DESC),
    },
    "with messages in another order": { order: "owner-first", queues: 2, maxBytes: PAGE },
  };
  for (const [name, options] of Object.entries(kinds)) {
    it(`is verified ${name}`, () => {
      using driver = connect(options);
      const blockSize = Math.min(options.maxBytes ?? 65_536, 65_536);
      verifyDriver(driver, { blocks: 8 * (MIB / 65_536), blockSize, mixed: 300 });
      assertOnce(iommuOf(driver));
      assert.deepEqual(iommuOf(driver).failures, []);
    });
  }

  for (const [kind, features] of Object.entries({ split: ringFeatures, packed })) {
    it(`is verified while its translations go again and again, on ${kind} rings`, () => {
      using driver = connect({ queues: 2, maxBytes: 16_384, features });
      const iommu = iommuOf(driver);
      const journal = verifyDriver(driver, { blocks: 256, blockSize: 16_384, mixed: 100 });
      const rounds = full ? 400 : 40;
      let random = 1;
      for (let i = 0; i < rounds; i++) {
        const work = { operation: "mixed", order: "random", blockSize: 16_384 } as const;
        const result = runWorkload(driver, {
          ...work,
          blocks: 256,
          requests: 50,
          journal,
          seed: i + 1,
        });
        assertClean(result, 50);
        random = (random * 48_271) % 0x7fffffff;
        const page = iommu.misses[random % iommu.misses.length]!.address;
        // All, the rings included; a page; many pages.
        if (i % 3 === 0) iommu.invalidate();
        else iommu.invalidate(page, i % 3 === 1 ? PAGE : 64 * PAGE);
      }
      compare(driver, journal);
      assert.equal(
        driver.frontend.vrings.some((vring) => vring.broken()),
        false,
      );
    });
  }

  it("keeps requests in flight whole when their translations go", () => {
    using driver = connect({ queues: 2, maxBytes: 65_536 });
    const iommu = iommuOf(driver);
    for (let round = 0; round < (full ? 200 : 20); round++) {
      for (const [i, queue] of driver.queues.entries()) {
        for (let slot = queue.acquire(); slot >= 0; slot = queue.acquire()) {
          queue.data(slot, 65_536).fill(slot + round);
          queue.submit(slot, BlkRequest.OUT, (slot + i * 32) * 128, 65_536);
        }
        queue.publish();
      }
      iommu.invalidate();
      for (const queue of driver.queues) {
        drain(queue, (slot) => assert.equal(queue.status(slot), BlkStatus.OK));
      }
      const slot = round % 32;
      const data = driver.read((slot + (round % 2) * 32) * 128, 65_536, round % 2);
      assert.ok(data.every((byte) => byte === ((slot + round) & 0xff)));
    }
  });

  it("lets other queues go on while one waits", () => {
    const held: IotlbRequest[] = [];
    const limits = { from: 0, to: 0 };
    const miss = (request: IotlbRequest, iommu: Iommu) => {
      const page = iommu.page(request.address)!;
      if (page.target < limits.from || page.target >= limits.to) return page;
      held.push(request);
      return "ignore" as const;
    };
    using driver = connect({ queues: 2, maxBytes: PAGE, iommu: { miss } });
    const iommu = iommuOf(driver);
    const [first] = driver.queues;
    const slot = first!.acquire();
    limits.from = first!.address(slot);
    limits.to = limits.from + PAGE;
    first!.data(slot, PAGE).fill(7);
    first!.submit(slot, BlkRequest.OUT, 0, PAGE);
    first!.publish();
    for (let i = 0; i < 50; i++) driver.write(64 + i, new Uint8Array(512).fill(i), 1);
    for (let i = 0; i < 50; i++) assert.equal(driver.read(64 + i, 512, 1)[0], i);
    assert.equal(first!.take(), -1);
    assert.equal(held.length, 1, "the page was asked for, once");
    iommu.update(iommu.page(held[0]!.address)!);
    drain(first!, (done) => assert.equal(first!.status(done), BlkStatus.OK));
    assert.equal(driver.read(0, PAGE, 1)[PAGE - 1], 7);
  });

  it("waits with its rings until their addresses are known", () => {
    const asked: IotlbRequest[] = [];
    const miss = (request: IotlbRequest) => {
      asked.push(request);
      return "ignore" as const;
    };
    using driver = connect({ maxBytes: PAGE, iommu: { miss } });
    const iommu = iommuOf(driver);
    const { vring } = driver.queues[0]!;
    serveUntil(driver, () => asked.length > 0, "a miss");
    const slot = driver.queues[0]!.acquire();
    driver.queues[0]!.submit(slot, BlkRequest.FLUSH, 0, 0);
    driver.queues[0]!.publish();
    assert.equal(vring.wait(200), false);
    // All that is asked for is given, until there is a completion.
    until(() => {
      iommu.serve();
      for (const { address } of asked.splice(0)) iommu.update(iommu.page(address)!);
      return vring.wait(20) ? true : null;
    }, "the completion");
    assert.equal(driver.queues[0]!.take(), slot);
  });

  for (const [what, type, permission] of [
    ["read-only memory", BlkRequest.IN, Permission.READ],
    ["write-only memory", BlkRequest.OUT, Permission.WRITE],
  ] as const) {
    it(`breaks a queue that does not respect ${what}, and no other`, () => {
      const limits = { from: 0, to: 0 };
      const miss = ({ address }: IotlbRequest, iommu: Iommu) => {
        const page = iommu.page(address)!;
        const sealed = page.target >= limits.from && page.target < limits.to;
        return sealed ? { ...page, permission } : page;
      };
      using driver = connect({ queues: 2, maxBytes: PAGE, iommu: { miss } });
      const [first] = driver.queues;
      const slot = first!.acquire();
      limits.from = first!.address(slot);
      limits.to = limits.from + PAGE;
      first!.submit(slot, type, 0, PAGE);
      first!.publish();
      const failures = iommuOf(driver).failures;
      serveUntil(driver, () => failures.length > 0, "ACCESS_FAIL");
      const wanted = type === BlkRequest.IN ? Permission.WRITE : Permission.READ;
      const address = limits.from + iommuOf(driver).offset;
      assert.deepEqual(failures, [{ address, permission: wanted }]);
      assert.ok(first!.vring.broken(1000));
      driver.write(0, new Uint8Array(512), 1);
      assert.match(program.log, /must not be (read|written) .*virtio 1\.3 6\.1/);
    });
  }

  it("breaks a queue whose address the front-end has nothing for, at once", () => {
    const gap = { at: 0 };
    const miss = ({ address }: IotlbRequest, iommu: Iommu) =>
      Math.floor(address / PAGE) === gap.at ? ("refuse" as const) : iommu.page(address)!;
    using driver = connect({ maxBytes: PAGE, iommu: { miss } });
    const [queue] = driver.queues;
    const slot = queue!.acquire();
    gap.at = (queue!.address(slot) + iommuOf(driver).offset) / PAGE;
    queue!.submit(slot, BlkRequest.IN, 0, PAGE);
    queue!.publish();
    serveUntil(driver, () => queue!.vring.broken(), "the end", 2000);
    assert.match(program.log, /got no translation for writing from the front-end/);
  });

  it("serves what it is told of in advance by a front-end that it cannot ask", () => {
    const without = protocolFeatures & ~mask(ProtocolFeature.BACKEND_REQ);
    using driver = connect({ protocol: without, maxBytes: PAGE });
    const iommu = iommuOf(driver);
    assert.equal(iommu.fd, null);
    const { plan } = driver.frontend.memory.regions[0]!;
    const { guestAddress, size } = plan;
    const address = guestAddress + iommu.offset;
    iommu.update({ address, size, target: guestAddress, permission: Permission.BOTH });
    verifyDriver(driver, { blocks: 128, mixed: 300 });
  });

  it("goes on over a new connection, which knows nothing of the old translations", () => {
    using driver = connect({ maxBytes: PAGE });
    const journal = verifyDriver(driver, { blocks: 128, mixed: 300 });
    const iommu = iommuOf(driver);
    const before = iommu.misses.length;
    driver.frontend.reconnect();
    compare(driver, journal);
    assert.ok(iommu.misses.length > before);
  });

  it("forgets its translations when the driver starts anew", () => {
    using driver = connect({ maxBytes: PAGE });
    verifyDriver(driver, { blocks: 64, mixed: 100 });
    const iommu = iommuOf(driver);
    iommu.misses.length = 0;
    const { frontend } = driver;
    const bases = frontend.stop();
    frontend.acceptFeatures();
    frontend.startVrings(frontend.vrings, bases);
    driver.write(0, new Uint8Array(PAGE));
    assertOnce(iommu);
  });
});

describe("a disk with guest-physical addresses", () => {
  it("is verified without an IOMMU", () => {
    using program = serveBlk("ram:8M", ["--iommu"]);
    using driver = BlkDriver.connect(program.socket, { protocol: gpa, memory: { regions: 2 } });
    assert.ok(has(driver.frontend.agreed.protocol, ProtocolFeature.GPA_ADDRESSES));
    verifyDriver(driver, { blocks: 128, mixed: 300 });
  });
});

describe("a disk that holds requests, behind an IOMMU", () => {
  it("finishes them before the reply to their invalidation, and only those", () => {
    const module = join(root, "tests/bad-input/holding-disk.ts");
    using program = new Program([launcher("ringside"), module, "--iommu", "--socket-path=SOCKET"]);
    using driver = BlkDriver.connect(program.socket, { queues: 2, maxBytes: PAGE, iommu: {} });
    const iommu = iommuOf(driver);
    const [first] = driver.queues;
    const slot = first!.acquire();
    const other = first!.acquire();
    // Known to the back-end before the request that is held.
    first!.data(slot, PAGE).fill(9);
    driver.write(0, new Uint8Array(PAGE), 1);
    first!.submit(slot, BlkRequest.OUT, 1024, PAGE);
    first!.publish();
    const from = first!.address(slot) + iommu.offset;
    const asked = () => iommu.misses.some(({ address }) => address === from);
    serveUntil(driver, asked, "the miss of what is held");
    for (let i = 0; i < 5; i++) driver.write(0, new Uint8Array(PAGE), 1);
    let begun = performance.now();
    iommu.invalidate(first!.address(other) + iommu.offset, PAGE);
    assert.equal(first!.vring.wait(0), false, "what is not touched is not waited for");
    assert.ok(performance.now() - begun < 900);
    begun = performance.now();
    iommu.invalidate(from, PAGE);
    assert.equal(first!.take(), slot, "it is completed by now");
    first!.release(slot);
    assert.equal(driver.read(1024, PAGE)[0], 9);
  });
});
