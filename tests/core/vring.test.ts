/** What makes a vring start, and what is refused on the way. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { GuestMemory } from "../../core/memory.ts";
import { Vring } from "../../core/vring.ts";
import { createEventFd, createMemfd } from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { DriverRing } from "./driver.ts";
import { userAddress } from "./guest.ts";
import { pause, until } from "./until.ts";
import {
  kickWith,
  RING,
  refused,
  SIZE,
  signalled,
  useVring,
  type VringHarness,
} from "./vring-harness.ts";

describe("Vring", () => {
  const suite = useVring();
  let t: VringHarness;
  beforeEach(() => {
    t = suite.current;
  });

  test("is scanned as soon as it starts, without a kick", async () => {
    t.offer();
    t.start().close();
    await t.used(1);
    assert.deepEqual(t.ring.reap(), [{ id: 0, length: 16 }]);
    assert.ok(signalled(t.call));
    assert.deepEqual(t.events, ["started 3"]);
  });

  test("tells a driver that begins anew from one that goes on", async () => {
    const fresh: boolean[] = [];
    t.device.started = (queue) => void fresh.push(queue.fresh);
    const again = async (base: number | null) => {
      if (base !== null) t.vring.setBase(base);
      t.start().close();
      return t.stopped();
    };
    // Stopped before anything came, it goes on where it began.
    assert.equal(await again(0), 0);
    assert.equal(await again(0), 0);
    t.offer();
    t.start().close();
    await t.used(1);
    const base = await t.stopped();
    assert.equal(base, 1);
    await again(base);
    await again(null);
    t.vring.disable(() => {});
    t.ring = new DriverRing(t.guest, { size: SIZE, at: RING });
    await again(0);
    assert.deepEqual(fresh, [true, false, false, false, false, true]);
  });

  test("serves what a kick announces", async () => {
    using kick = t.start();
    await until(() => t.ring.usedFlags === 0);
    for (let i = 0; i < 3; i++) {
      t.offer();
      kickWith(kick);
      await t.used(1);
      assert.equal(t.ring.reap().length, 1);
    }
  });

  test("is started, kicked and called in band when it has no descriptors", async () => {
    t.offer();
    t.setUp();
    t.vring.setCall(null);
    t.vring.enable();
    assert.ok(t.vring.stopped);
    t.vring.kickInBand();
    assert.ok(!t.vring.stopped);
    await t.used(1);
    assert.equal(t.ring.reap().length, 1);
    assert.ok(t.notified.includes("VRING_CALL 3"));
    // Nobody polls: only a kick brings the next one.
    await until(() => t.ring.usedFlags === 0);
    t.offer();
    await pause(30);
    assert.equal(t.ring.shownUsed, t.ring.usedIndex);
    t.vring.kickInBand();
    assert.equal(t.ring.shownUsed, t.ring.usedIndex + 1, "before the driver gets its answer");
    await t.used(1);
    t.vring.setCall(t.call.duplicate());
    const before = t.notified.length;
    t.offer();
    t.vring.kickInBand();
    await t.used(1);
    assert.equal(t.notified.length, before, "a descriptor wins");
    assert.ok(signalled(t.call));
    t.vring.stop(() => {});
    assert.ok(t.vring.stopped);
  });

  test("keeps its byte order, which does not change while it runs", () => {
    assert.equal(t.vring.bigEndian, false);
    t.vring.setBigEndian(true);
    assert.equal(t.vring.bigEndian, true);
    t.start().close();
    assert.throws(() => t.vring.setBigEndian(false), /byte order .* while it is running/);
  });

  test("handles nothing before it is enabled, and what is there when it is", async () => {
    t.offer();
    t.setUp();
    t.vring.setKick(createEventFd());
    assert.deepEqual([t.vring.running, t.vring.enabled], [false, false]);
    await pause(20);
    assert.equal(t.ring.shownUsed, 0);
    assert.deepEqual(t.events, []);
    t.vring.enable();
    await t.used(1);
    assert.deepEqual(t.events, ["started 3"]);
    await new Promise<void>((resolve) => t.vring.disable(resolve));
    assert.deepEqual(t.events, ["started 3", "stopping 3"]);
    t.offer();
    await pause(20);
    assert.equal(t.ring.shownUsed, 1);
    t.vring.enable();
    await t.used(2);
  });

  test("starts in whatever order it is set up", async () => {
    const steps: Readonly<Record<string, () => void>> = {
      size: () => t.vring.setSize(SIZE),
      addresses: () => t.vring.setAddresses(t.addresses()),
      kick: () => t.vring.setKick(createEventFd()),
      enable: () => t.vring.enable(),
    };
    t.offer();
    for (const order of [
      ["kick", "size", "addresses", "enable"],
      ["kick", "addresses", "size", "enable"],
      ["enable", "kick", "addresses", "size"],
      ["addresses", "size", "enable", "kick"],
    ]) {
      t.vring.dispose();
      t.ring = new DriverRing(t.guest, { size: SIZE, at: RING });
      t.offer();
      t.vring = new Vring(3, { name: "test" }, t.context);
      for (const step of order) steps[step]!();
      await until(() => t.ring.shownUsed === 1, order.join(", "));
    }
  });

  test("is polled when it has no kick descriptor", async () => {
    t.setUp();
    t.vring.enable();
    t.vring.setKick(null);
    for (let i = 0; i < 3; i++) {
      t.offer();
      await t.used(1);
      t.ring.reap();
    }
  });

  test("goes on with a kick descriptor that replaces the old one", async () => {
    using first = t.start();
    using second = createEventFd();
    t.vring.setKick(second.duplicate());
    t.offer();
    kickWith(second);
    await t.used(1);
    t.ring.reap();
    await until(() => t.ring.usedFlags === 0);
    t.offer();
    kickWith(first);
    await pause(20);
    assert.equal(t.ring.shownUsed, 1, "the old descriptor is not listened to");
  });

  test("looks for chains at once when memory has changed, and not later without a kick", async () => {
    t.offer();
    using kick = t.start();
    await t.used(1);
    await until(() => t.ring.usedFlags === 0);
    // The ring was looked at when it started; only the kick brings this one.
    t.offer();
    kickWith(kick);
    await t.used(2);
    t.vring.suspend(() => {
      t.offer();
      t.vring.unsuspend();
    });
    assert.equal(t.ring.shownUsed, 3);
    // What firmware has left behind may look like chains one day.
    t.offer();
    await pause(50);
    assert.equal(t.ring.shownUsed, 3);
    kickWith(kick);
    await t.used(4);
  });

  test("works with pipes, and rests when nobody can kick it any more", async () => {
    const { reader, writer } = createPipe();
    t.setUp();
    t.vring.enable();
    t.vring.setKick(reader);
    t.offer();
    kickWith(writer);
    await t.used(1);
    let drains = 0;
    t.device.flush = () => void drains++;
    writer.close();
    await pause(20);
    assert.ok(drains < 20, `${drains} rounds for nothing`);
    t.offer();
    t.vring.setKick(createEventFd());
    await t.used(2);
  });

  test("signals a call descriptor that comes while it runs", async () => {
    t.offer();
    t.start().close();
    await t.used(1);
    assert.ok(signalled(t.call));
    using second = createEventFd();
    t.vring.setCall(second.duplicate());
    assert.ok(signalled(second), "a completion could have gone to nobody");
  });

  test("refuses sizes, bases and addresses that cannot be", () => {
    for (const size of [0, 3, 6, 32769, 65536, 0xffffffff]) {
      assert.throws(() => t.vring.setSize(size), refused(/power of 2 up to 32768/));
    }
    t.vring.setSize(32768);
    assert.throws(() => t.vring.setBase(0x10000), refused(/index 65536/));
    t.vring.setBase(0xffff);
    for (const part of ["descriptor", "available", "used"] as const) {
      const odd = { ...t.addresses(), [part]: t.addresses()[part] + 1 };
      assert.throws(() => t.vring.setAddresses(odd), refused(/aligned to 16, 2 and 4/));
    }
    assert.equal(t.vring.running, false);
  });

  test("respects the largest size that its device accepts", () => {
    const small = new Vring(0, { name: "small", maxSize: 16 }, t.context);
    small.setSize(16);
    assert.throws(() => small.setSize(32), refused(/up to 16/));
  });

  test("refuses to start outside of guest memory, and starts when that is mended", async () => {
    t.vring.setSize(SIZE);
    t.vring.enable();
    const wrong = userAddress(0x20000 - 16);
    for (const part of ["descriptor", "available", "used"] as const) {
      t.vring.setAddresses({ ...t.addresses(), [part]: wrong });
      using kick = createEventFd();
      assert.throws(() => t.vring.setKick(kick), refused(/is not in one memory region/));
      assert.equal(kick.closed, false, "the caller keeps the descriptor");
      assert.equal(t.vring.running, false);
    }
    t.vring.setAddresses(t.addresses());
    t.vring.setKick(createEventFd());
    t.offer();
    t.vring.scheduleDrain();
    await t.used(1);
  });

  test("refuses a ring that lies across two regions", () => {
    t.vring.setSize(SIZE);
    t.vring.enable();
    t.vring.setAddresses({ ...t.addresses(), descriptor: userAddress(0x10000 - 64) });
    using kick = createEventFd();
    assert.throws(() => t.vring.setKick(kick), refused(/descriptor table of 128 bytes/));
  });

  test("refuses a ring that lies askew in the memory behind its address", () => {
    using file = createMemfd("ringside-askew", 0x3000);
    using memory = new GuestMemory();
    const region = { guestAddress: 0, size: 0x2000, userAddress: userAddress(0) };
    memory.replace([{ ...region, mmapOffset: 8 }], [file]);
    const vring = new Vring(0, { name: "askew" }, { ...t.context, memory });
    vring.setSize(SIZE);
    vring.setAddresses(t.addresses());
    vring.enable();
    using kick = createEventFd();
    assert.throws(
      () => vring.setKick(kick),
      refused(/descriptor table .* not aligned to 16 bytes/),
    );
  });

  test("does not change size, base or addresses while it is started", async () => {
    t.start().close();
    assert.throws(() => t.vring.setSize(4), refused(/size of vring 3/));
    assert.throws(() => t.vring.setBase(1), refused(/base of vring 3/));
    const moved = { ...t.addresses(), used: t.addresses().used + 4 };
    assert.throws(() => t.vring.setAddresses(moved), refused(/addresses of vring 3/));
    t.vring.setAddresses(t.addresses());
    await t.stopped();
    t.vring.setSize(4);
    t.vring.setBase(1);
    t.vring.setAddresses(moved);
  });
});
