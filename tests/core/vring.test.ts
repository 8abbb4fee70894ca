/** The life of a vring: what makes it start, pause, stop and break. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { HeldChain } from "../../core/chain.ts";
import { type Device, PENDING, STOP, type Virtqueue } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { mask, RingFeature } from "../../core/features.ts";
import { Log, type LogRecord } from "../../core/log.ts";
import { Loop } from "../../core/loop.ts";
import { Vring } from "../../core/vring.ts";
import { bytes, createEventFd, type Fd, libc } from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { DriverRing } from "./driver.ts";
import { regionSpec, TestGuest, userAddress } from "./guest.ts";
import { pause, until } from "./until.ts";

const SIZE = 8;
const RING = 0x1000;
const DATA = 0x8000;

const features = mask(RingFeature.VERSION_1, RingFeature.INDIRECT_DESC);

describe("Vring", () => {
  let loop: Loop;
  let running: Promise<void>;
  before(() => {
    loop = new Loop();
    loop.useEvents();
    running = loop.run();
  });
  after(async () => {
    loop.stop();
    await running;
    loop[Symbol.dispose]();
  });

  let guest: TestGuest;
  let ring: DriverRing;
  let records: LogRecord[];
  let device: Device;
  let vring: Vring;
  /** The driver's copies of the descriptors. */
  let call: Fd;
  let err: Fd;
  /** What the device was told. */
  let events: string[];
  let held: HeldChain[];

  beforeEach(() => {
    guest = new TestGuest([
      { guestAddress: 0, size: 0x10000, at: 0 },
      { guestAddress: 0x10000, size: 0x10000, at: 0x10000 },
    ]);
    ring = new DriverRing(guest, { size: SIZE, at: RING });
    records = [];
    events = [];
    held = [];
    device = {
      handle: (chain) => chain.writableBytes,
      started: (queue) => void events.push(`started ${queue.index}`),
      stopping: (queue) => void events.push(`stopping ${queue.index}`),
    };
    const log = new Log((record) => records.push(record), "debug");
    vring = new Vring(3, { name: "test" }, { loop, log, device, memory: guest.memory, features });
    call = createEventFd();
    err = createEventFd();
  });
  afterEach(() => {
    vring.dispose();
    guest[Symbol.dispose]();
    call.close();
    err.close();
  });

  const addresses = ({ at } = ring) => ({
    descriptor: userAddress(at.descriptor),
    available: userAddress(at.available),
    used: userAddress(at.used),
  });

  function setUp(): void {
    vring.setSize(SIZE);
    vring.setAddresses(addresses());
    vring.setCall(call.duplicate());
    vring.setErr(err.duplicate());
  }

  /** Starts the ring; returns the driver's end of the kick. */
  function start(): Fd {
    const kick = createEventFd();
    setUp();
    vring.enable();
    vring.setKick(kick.duplicate());
    return kick;
  }

  const offer = () => ring.offer([{ address: DATA, length: 16, writable: true }]);
  const used = (count: number) =>
    until(() => (ring.shownUsed - ring.usedIndex + 65536) % 65536 >= count, `${count} completions`);
  const signalled = (fd: Fd) => libc.read(fd.number, bytes(8), 8) === 8;
  const kickWith = (fd: Fd) =>
    assert.equal(libc.write(fd.number, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), 8), 8);

  function stopped(): Promise<number> {
    return new Promise((resolve) => vring.stop(resolve));
  }

  const refused = (reason: RegExp) => (error: unknown) =>
    error instanceof ProtocolError && reason.test(error.message);

  test("is scanned as soon as it starts, without a kick", async () => {
    offer();
    start().close();
    await used(1);
    assert.deepEqual(ring.reap(), [{ id: 0, length: 16 }]);
    assert.ok(signalled(call));
    assert.deepEqual(events, ["started 3"]);
  });

  test("serves what a kick announces", async () => {
    using kick = start();
    await until(() => ring.usedFlags === 0);
    for (let i = 0; i < 3; i++) {
      offer();
      kickWith(kick);
      await used(1);
      assert.equal(ring.reap().length, 1);
    }
  });

  test("handles nothing before it is enabled, and what is there when it is", async () => {
    offer();
    setUp();
    vring.setKick(createEventFd());
    assert.deepEqual([vring.running, vring.enabled], [false, false]);
    await pause(20);
    assert.equal(ring.shownUsed, 0);
    assert.deepEqual(events, []);
    vring.enable();
    await used(1);
    assert.deepEqual(events, ["started 3"]);
    await new Promise<void>((resolve) => vring.disable(resolve));
    assert.deepEqual(events, ["started 3", "stopping 3"]);
    offer();
    await pause(20);
    assert.equal(ring.shownUsed, 1);
    vring.enable();
    await used(2);
  });

  test("starts in whatever order it is set up", async () => {
    const steps: Readonly<Record<string, () => void>> = {
      size: () => vring.setSize(SIZE),
      addresses: () => vring.setAddresses(addresses()),
      kick: () => vring.setKick(createEventFd()),
      enable: () => vring.enable(),
    };
    offer();
    for (const order of [
      ["kick", "size", "addresses", "enable"],
      ["kick", "addresses", "size", "enable"],
      ["enable", "kick", "addresses", "size"],
      ["addresses", "size", "enable", "kick"],
    ]) {
      const log = new Log();
      vring.dispose();
      ring = new DriverRing(guest, { size: SIZE, at: RING });
      offer();
      vring = new Vring(3, { name: "test" }, { loop, log, device, memory: guest.memory, features });
      for (const step of order) steps[step]!();
      await until(() => ring.shownUsed === 1, order.join(", "));
    }
  });

  test("is polled when it has no kick descriptor", async () => {
    setUp();
    vring.enable();
    vring.setKick(null);
    for (let i = 0; i < 3; i++) {
      offer();
      await used(1);
      ring.reap();
    }
  });

  test("goes on with a kick descriptor that replaces the old one", async () => {
    using first = start();
    using second = createEventFd();
    vring.setKick(second.duplicate());
    offer();
    kickWith(second);
    await used(1);
    ring.reap();
    await until(() => ring.usedFlags === 0);
    offer();
    kickWith(first);
    await pause(20);
    assert.equal(ring.shownUsed, 1, "the old descriptor is not listened to");
  });

  test("works with pipes, and rests when nobody can kick it any more", async () => {
    const { reader, writer } = createPipe();
    setUp();
    vring.enable();
    vring.setKick(reader);
    offer();
    kickWith(writer);
    await used(1);
    writer.close();
    await pause(10);
    offer();
    vring.setKick(createEventFd());
    await used(2);
  });

  test("signals a call descriptor that comes while it runs", async () => {
    offer();
    start().close();
    await used(1);
    assert.ok(signalled(call));
    using second = createEventFd();
    vring.setCall(second.duplicate());
    assert.ok(signalled(second), "a completion could have gone to nobody");
  });

  test("refuses sizes, bases and addresses that cannot be", () => {
    for (const size of [0, 3, 6, 32769, 65536, 0xffffffff]) {
      assert.throws(() => vring.setSize(size), refused(/power of 2 up to 32768/));
    }
    vring.setSize(32768);
    assert.throws(() => vring.setBase(0x10000), refused(/index 65536/));
    vring.setBase(0xffff);
    for (const part of ["descriptor", "available", "used"] as const) {
      const odd = { ...addresses(), [part]: addresses()[part] + 1 };
      assert.throws(() => vring.setAddresses(odd), refused(/aligned to 16, 2 and 4/));
    }
    assert.equal(vring.running, false);
  });

  test("respects the largest size that its device accepts", () => {
    const context = { loop, log: new Log(), device, memory: guest.memory, features };
    const small = new Vring(0, { name: "small", maxSize: 16 }, context);
    small.setSize(16);
    assert.throws(() => small.setSize(32), refused(/up to 16/));
  });

  test("refuses to start outside of guest memory, and starts when that is mended", async () => {
    vring.setSize(SIZE);
    vring.enable();
    const wrong = userAddress(0x20000 - 16);
    for (const part of ["descriptor", "available", "used"] as const) {
      vring.setAddresses({ ...addresses(), [part]: wrong });
      using kick = createEventFd();
      assert.throws(() => vring.setKick(kick), refused(/is not in one memory region/));
      assert.equal(kick.closed, false, "the caller keeps the descriptor");
      assert.equal(vring.running, false);
    }
    vring.setAddresses(addresses());
    vring.setKick(createEventFd());
    offer();
    vring.scheduleDrain();
    await used(1);
  });

  test("refuses a ring that lies across two regions", () => {
    vring.setSize(SIZE);
    vring.enable();
    vring.setAddresses({ ...addresses(), descriptor: userAddress(0x10000 - 64) });
    using kick = createEventFd();
    assert.throws(() => vring.setKick(kick), refused(/descriptor table of 128 bytes/));
  });

  test("does not change size, base or addresses while it is started", async () => {
    start().close();
    assert.throws(() => vring.setSize(4), refused(/size of vring 3/));
    assert.throws(() => vring.setBase(1), refused(/base of vring 3/));
    const moved = { ...addresses(), used: addresses().used + 4 };
    assert.throws(() => vring.setAddresses(moved), refused(/addresses of vring 3/));
    vring.setAddresses(addresses());
    await stopped();
    vring.setSize(4);
    vring.setBase(1);
    vring.setAddresses(moved);
  });

  test("answers a stop with the index to go on from, and goes on from there", async () => {
    vring.setBase(0);
    start().close();
    offer();
    vring.scheduleDrain();
    await used(1);
    assert.equal(await stopped(), 1);
    assert.equal(vring.running, false);
    assert.equal(await stopped(), 1, "a ring that is stopped keeps its index");
    offer();
    vring.setKick(createEventFd());
    await used(2);
    assert.deepEqual(
      ring.reap().map(({ id }) => id),
      [0, 1],
    );
  });

  test("waits with a stop until the device has completed what it holds", async () => {
    device.handle = (chain) => {
      held.push(chain.hold());
      return PENDING;
    };
    start().close();
    offer();
    offer();
    vring.scheduleDrain();
    await until(() => held.length === 2);
    let base = -1;
    vring.stop((index) => {
      base = index;
    });
    offer();
    vring.scheduleDrain();
    await pause(20);
    assert.deepEqual([base, held.length], [-1, 2]);
    held[1]!.complete(7);
    await used(1);
    assert.equal(base, -1);
    held[0]!.complete(5);
    await until(() => base === 2);
    assert.deepEqual(ring.reap(), [
      { id: 1, length: 7 },
      { id: 0, length: 5 },
    ]);
    assert.deepEqual(events, ["started 3", "stopping 3"]);
  });

  test("tells the device of a stop when the front-end has disabled the ring before", async () => {
    // As QEMU does it: SET_VRING_ENABLE 0, then GET_VRING_BASE.
    device.handle = (chain) => {
      held.push(chain.hold());
      return PENDING;
    };
    device.stopping = () => {
      events.push("stopping");
      for (const chain of held) chain.complete(0);
    };
    start().close();
    offer();
    vring.scheduleDrain();
    await until(() => held.length === 1);
    vring.disable(() => {});
    const base = await Promise.race([stopped(), pause(1000).then(() => "nothing")]);
    assert.equal(base, 1);
    assert.deepEqual(events, ["started 3", "stopping"]);
  });

  test("tells the device of each start once", async () => {
    start().close();
    vring.enable();
    vring.enable();
    await stopped();
    await stopped();
    vring.setKick(createEventFd());
    await stopped();
    assert.deepEqual(events, ["started 3", "stopping 3", "started 3", "stopping 3"]);
  });

  test("leaves a chain that the device stops at, until it resumes", async () => {
    let ready = false;
    let queue: Virtqueue | null = null;
    device.started = (started) => {
      queue = started;
    };
    device.handle = () => (ready ? 0 : STOP);
    start().close();
    offer();
    vring.scheduleDrain();
    await pause(20);
    assert.deepEqual([ring.shownUsed, queue!.inFlight], [0, 0]);
    ready = true;
    queue!.resume();
    await used(1);
    assert.equal(await stopped(), 1);
  });

  test("lets the device make use of chains when it wants", async () => {
    let queue: Virtqueue | null = null;
    device.started = (started) => {
      queue = started;
    };
    delete (device as { handle?: unknown }).handle;
    start().close();
    offer();
    offer();
    await until(() => queue !== null);
    await pause(5);
    assert.equal(queue!.next(), true);
    queue!.chain.writeU8(0, 1);
    queue!.complete(queue!.chain.head, 1);
    await used(1);
    assert.equal(queue!.next(), true);
    queue!.complete(queue!.chain.head, 2);
    queue!.publish();
    assert.equal(queue!.next(), false);
    assert.deepEqual(
      ring.reap().map(({ length }) => length),
      [1, 2],
    );
  });

  const wrongHandlers: Readonly<Record<string, () => unknown>> = {
    "throws an error": () => {
      throw new Error("on purpose");
    },
    "answers nothing": () => undefined,
    "answers a promise": async () => 0,
    "answers NaN": () => Number.NaN,
  };
  for (const [what, handle] of Object.entries(wrongHandlers)) {
    test(`breaks when its handler ${what}, and stops at once`, async () => {
      device.handle = handle as NonNullable<Device["handle"]>;
      start().close();
      offer();
      vring.scheduleDrain();
      await until(() => records.some(({ level }) => level === "error"));
      assert.ok(signalled(err));
      assert.equal(ring.shownUsed, 0);
      const base = await Promise.race([stopped(), pause(1000).then(() => "nothing")]);
      assert.equal(base, 0, "the chain that was not served is still available");
      device.handle = () => 0;
      vring.setKick(createEventFd());
      await used(1);
    });
  }

  test("breaks at what the driver does wrong, and works after it is set up again", async () => {
    start().close();
    offer();
    ring.push(99);
    ring.show();
    vring.scheduleDrain();
    await until(() => records.some(({ level }) => level === "error"));
    const { message, fields } = records.find(({ level }) => level === "error")!;
    assert.match(message, /^The driver broke the queue: available ring entry 1 holds 99/);
    assert.deepEqual(fields, { queue: 3, rule: "virtio 1.3 2.7.5" });
    assert.ok(signalled(err));
    assert.equal(ring.shownUsed, 1, "what came before is completed");
    offer();
    vring.scheduleDrain();
    await pause(20);
    assert.equal(ring.shownUsed, 1);
    assert.equal(await stopped(), 1);
    ring = new DriverRing(guest, { size: SIZE, at: RING });
    offer();
    vring.setBase(0);
    vring.setKick(createEventFd());
    await used(1);
  });

  test("goes on after a pause on memory that has changed meanwhile", async () => {
    device.handle = (chain) => {
      held.push(chain.hold());
      return PENDING;
    };
    start().close();
    offer();
    vring.scheduleDrain();
    await until(() => held.length === 1);
    let quiet = false;
    vring.suspend(() => {
      quiet = true;
    });
    await pause(5);
    assert.equal(quiet, false);
    held[0]!.complete(1);
    await until(() => quiet);
    const fds = guest.regions.map(() => guest.files[0]!);
    guest.memory.replace(guest.regions.map(regionSpec), fds);
    vring.unsuspend();
    offer();
    vring.scheduleDrain();
    await until(() => held.length === 2);
    held[1]!.complete(2);
    await used(2);
    assert.deepEqual(
      ring.reap().map(({ length }) => length),
      [1, 2],
    );
    assert.deepEqual(events, ["started 3", "stopping 3", "started 3"]);
  });

  test("breaks when its own memory is taken away, and can be stopped", async () => {
    start().close();
    await pause(5);
    vring.suspend(() => {});
    guest.memory.replace([], []);
    vring.unsuspend();
    assert.ok(signalled(err));
    assert.match(
      String(records.at(-1)!.fields.reason),
      /descriptor table.*not in one memory region/,
    );
    assert.equal(await stopped(), 0);
  });

  test("gives other queues their turn while it has more than enough to do", async () => {
    const order: number[] = [];
    device.handle = (_, queue) => {
      order.push(queue.index);
      return 0;
    };
    const large = new DriverRing(guest, { size: 1024, at: 0x10000 });
    const context = { loop, log: new Log(), device, memory: guest.memory, features };
    const busy = new Vring(5, { name: "busy" }, context);
    busy.setSize(1024);
    busy.setAddresses(addresses(large));
    for (let i = 0; i < 1024; i++) large.offer([{ address: DATA, length: 1, writable: true }]);
    offer();
    setUp();
    busy.enable();
    vring.enable();
    busy.setKick(createEventFd());
    vring.setKick(createEventFd());
    await until(() => order.length === 1025);
    assert.ok(order.indexOf(3) < 1024, "the small queue waited for all of the large one");
    busy.dispose();
  });

  test("goes on past the end of the index, again and again", async () => {
    let count = 0;
    device.handle = () => ++count % 7;
    vring.setBase(0);
    using kick = start();
    for (let i = 0; i < 20_000; i++) {
      while (ring.free.length > 0) offer();
      kickWith(kick);
      if (i % 500 === 0) await used(SIZE);
      else vring.scheduleDrain();
      ring.reap();
      if (count > 140_000) break;
      if (i % 10 === 0) await Promise.resolve();
    }
    await until(() => ring.reap().length === 0 && ring.free.length === SIZE);
    assert.equal(await stopped(), ring.availableIndex);
    assert.equal(ring.usedIndex, ring.availableIndex);
  });
});
