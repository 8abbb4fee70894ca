/** Vrings whose driver is behind an IOMMU: what they wait for, and what their memory looks like. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Virtqueue } from "../../core/device.ts";
import { DirtyLog } from "../../core/dirty-log.ts";
import { mask, RingFeature } from "../../core/features.ts";
import { RingPlaces, ringParts } from "../../core/ring-address.ts";
import { Translation } from "../../core/translation.ts";
import { Vring } from "../../core/vring.ts";
import { Mapping } from "../../ffi/mod.ts";
import { DriverRing } from "./driver.ts";
import { TestGuest, userAddress } from "./guest.ts";
import { until } from "./until.ts";
import { DATA, RING, SIZE, signalled, useVring, type VringHarness } from "./vring-harness.ts";

/** I/O addresses less guest addresses. */
const OFFSET = 0x12_0000_0000;
const PAGE = 4096;
const LIMIT = 150;
const features = mask(
  RingFeature.VERSION_1,
  RingFeature.INDIRECT_DESC,
  RingFeature.ACCESS_PLATFORM,
);

describe("A vring behind an IOMMU", () => {
  const use = useVring();
  let harness: VringHarness;
  let translation: Translation;
  let queue: Virtqueue | null;

  const map = (guestAddress: number, size = PAGE, access = 3) =>
    translation.update(guestAddress + OFFSET, size, userAddress(guestAddress), access);
  /** A chain of one writable buffer at a guest address. */
  const offer = (address: number, length = 16) => {
    harness.ring.offer([{ address: address + OFFSET, length, writable: true }]);
    harness.vring.scheduleDrain();
  };
  const reasons = () => harness.records.filter(({ level }) => level === "error");

  beforeEach(() => {
    harness = use.current;
    queue = null;
    harness.device.started = (started) => {
      queue = started;
    };
    const { loop, log } = harness.context;
    const options = { loop, log, channel: () => null, missLimit: LIMIT };
    translation = new Translation(harness.guest.memory, options);
    harness.vring.dispose();
    harness.vring = new Vring(0, { name: "test" }, { ...harness.context, features, translation });
  });

  function start(): void {
    const { vring, ring } = harness;
    vring.setSize(SIZE);
    const { descriptor, available, used } = ring.at;
    vring.setAddresses({
      descriptor: descriptor + OFFSET,
      available: available + OFFSET,
      used: used + OFFSET,
    });
    vring.setErr(harness.err.duplicate());
    vring.enable();
    vring.setKick(null);
  }

  test("waits until its ring's addresses are known", async () => {
    start();
    assert.equal(harness.vring.running, false);
    map(RING + PAGE);
    assert.equal(harness.vring.running, false);
    map(RING);
    assert.equal(harness.vring.running, true);
    map(DATA);
    offer(DATA);
    await harness.used(1);
  });

  test("breaks when its ring's addresses do not come in time, and works when set up anew", async () => {
    start();
    await until(() => signalled(harness.err), "the end of the wait");
    assert.match(reasons()[0]!.message, /0x1200001000 got no translation .* within 150 ms/);
    map(RING);
    assert.equal(harness.vring.running, false);
    await harness.stopped();
    start();
    assert.equal(harness.vring.running, true);
  });

  test("goes on with a chain once it is known, and takes nothing before", async () => {
    map(RING);
    map(DATA);
    start();
    offer(DATA);
    offer(DATA + PAGE);
    offer(DATA);
    await harness.used(1);
    assert.deepEqual(harness.ring.reap().length, 1);
    assert.equal(queue!.next(), false, "the chain after it has to wait");
    assert.equal(queue!.inFlight, 0);
    map(DATA + PAGE);
    await harness.used(2);
    assert.equal(signalled(harness.err), false);
  });

  test("breaks when a chain's address does not come in time", async () => {
    map(RING);
    start();
    offer(DATA);
    await until(() => signalled(harness.err), "the end of the wait");
    assert.match(
      reasons()[0]!.message,
      /0x1200008000 got no translation for writing within 150 ms/,
    );
    map(DATA);
    assert.equal(queue!.next(), false);
  });

  test("tells a device that looks for chains itself of none, and drains when there is one", async () => {
    map(RING);
    let handled = 0;
    harness.device.handle = () => {
      handled++;
      return 0;
    };
    start();
    await until(() => queue !== null);
    harness.ring.offer([{ address: DATA + OFFSET, length: 16, writable: true }]);
    assert.equal(queue!.next(), false);
    assert.equal(queue!.next(), false);
    map(DATA);
    await harness.used(1);
    assert.equal(handled, 1);
  });

  test("submits what comes before a chain that waits", async () => {
    map(RING);
    map(DATA);
    const order: string[] = [];
    harness.device.handle = (chain) => {
      order.push("handle");
      return chain.writableBytes;
    };
    harness.device.flush = () => void order.push("flush");
    start();
    harness.ring.offer([{ address: DATA + OFFSET, length: 16, writable: true }]);
    offer(DATA + PAGE);
    await harness.used(1);
    assert.deepEqual(order.slice(0, 2), ["handle", "flush"]);
  });

  test("breaks when it must not write, and says so", async () => {
    map(RING);
    map(DATA, PAGE, 1);
    start();
    offer(DATA);
    await until(() => signalled(harness.err), "the failure");
    assert.match(reasons()[0]!.message, /must not be written/);
  });

  test("may not write its used ring to memory that can only be read", () => {
    map(RING, PAGE, 1);
    assert.throws(start, /its used ring at I\/O address 0x12000010\w\w must not be written/);
  });

  test("finds chains and tables that are scattered over pages in any order", async () => {
    map(RING);
    // Four pages in a row for the device, in reverse order in memory, their order known bytewise.
    const io = 0x77_0000_0000;
    for (let i = 0; i < 4; i++) {
      translation.update(io + i * PAGE, PAGE, userAddress(DATA + (3 - i) * PAGE), 3);
    }
    harness.device.handle = (chain) => {
      const bytes = Uint8Array.from({ length: chain.writableBytes }, (_, i) => i % 251);
      return chain.write(bytes);
    };
    start();
    // The table crosses a border, and so does the buffer.
    const table = 0x4000;
    translation.update(io - PAGE, PAGE, userAddress(table + 8 * PAGE), 3);
    const buffer = { address: io + 100, length: 2 * PAGE, writable: true };
    const head = harness.ring.chain([buffer], 0, table);
    const bytes = harness.guest.read(table, 16);
    harness.guest.write(table + 9 * PAGE - 8, bytes.subarray(0, 8));
    harness.guest.write(DATA + 3 * PAGE, bytes.subarray(8));
    harness.ring.describe(head, { address: io - 8, length: 16, flags: 4, next: 0 });
    harness.ring.push(head);
    harness.ring.show();
    await harness.used(1);
    assert.deepEqual(harness.ring.reap(), [{ id: head, length: 2 * PAGE }]);
    const got = [
      ...harness.guest.read(DATA + 3 * PAGE + 100, PAGE - 100),
      ...harness.guest.read(DATA + 2 * PAGE, PAGE),
      ...harness.guest.read(DATA + PAGE, 100),
    ];
    assert.ok(got.every((byte, i) => byte === i % 251));
  });
});

/** A guest whose file can be seen in one piece. */
class FlatGuest extends TestGuest {
  readonly mapping: Mapping;

  constructor() {
    // Two regions that the back-end maps one by one.
    super([
      { guestAddress: 0, size: 0x10000, at: 0 },
      { guestAddress: 0x10000, size: 0x10000, at: 0x10000 },
    ]);
    this.mapping = new Mapping(this.files[0]!, 0x20000);
  }

  override view(guestAddress: number, length: number): DataView<ArrayBuffer> {
    const { u8 } = this.mapping.windows[0]!;
    return new DataView(u8.buffer, u8.byteOffset + guestAddress, length);
  }

  override [Symbol.dispose](): void {
    this.mapping[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

describe("A ring in scattered pages", () => {
  const use = useVring();
  const size = 256;
  /** The descriptor table, of a page, crosses the border of the regions; so do all parts together. */
  const at = 0x10000 - PAGE / 2;

  function fixture() {
    const guest = new FlatGuest();
    const { loop, log } = use.current.context;
    const translation = new Translation(guest.memory, { loop, log, channel: () => null });
    const ring = new DriverRing(guest, { size, at });
    for (let page = at - (at % PAGE); page < at + 4 * PAGE; page += PAGE) {
      translation.update(page + OFFSET, PAGE, userAddress(page), 3);
    }
    translation.update(OFFSET, 0x1000, userAddress(0), 3);
    return { guest, translation, ring };
  }

  const addresses = ({ at: { descriptor, available, used } }: DriverRing) => ({
    descriptor: descriptor + OFFSET,
    available: available + OFFSET,
    used: used + OFFSET,
  });

  test("serves requests like any other", async () => {
    const { guest, translation, ring } = fixture();
    const context = { ...use.current.context, memory: guest.memory, features, translation };
    const vring = new Vring(0, { name: "test" }, context);
    vring.setSize(size);
    vring.setAddresses(addresses(ring));
    vring.enable();
    vring.setKick(null);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < size; i++) {
        ring.offer([{ address: OFFSET + 16 * i, length: 16, writable: true }]);
      }
      await until(() => (ring.shownUsed - ring.usedIndex + 65536) % 65536 === size);
      const done = ring.reap();
      assert.equal(new Set(done.map(({ id }) => id)).size, size);
      assert.ok(done.every(({ length }) => length === 16));
    }
    vring.dispose();
    guest[Symbol.dispose]();
  });

  test("is refused without an IOMMU", () => {
    const { guest, ring } = fixture();
    const where = { memory: guest.memory, guestAddresses: false, translation: null };
    const { descriptor, available, used } = ring.at;
    const user = {
      descriptor: userAddress(descriptor),
      available: userAddress(available),
      used: userAddress(used),
    };
    assert.throws(() => new RingPlaces("No", ringParts(false, size, user), where), /not in one/);
    guest[Symbol.dispose]();
  });

  test("marks all its pages in a dirty log, at guest-physical addresses", () => {
    const { guest, translation, ring } = fixture();
    const where = { memory: guest.memory, guestAddresses: false, translation };
    const log = new DirtyLog();
    {
      using places = new RingPlaces("No", ringParts(true, size, addresses(ring)), where);
      const { ring: device, pages, descriptors } = places.ringLog(log, 0x123);
      assert.equal(descriptors, at);
      assert.equal(device, ring.at.used);
      assert.deepEqual(new Set(pages), new Set([0xf000, 0x10000]));
    }
    using inOne = new RingPlaces("No", ringParts(false, 8, addresses(ring)), where);
    assert.deepEqual(inOne.ringLog(log, 0x123), { log, ring: ring.at.used, descriptors: at });
    assert.equal(inOne.ringLog(log, null).ring, null);
    log[Symbol.dispose]();
    guest[Symbol.dispose]();
  });
});
