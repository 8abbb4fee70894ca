/** What makes a vring pause, stop and break, and how it goes on. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type Device, PENDING, STOP, type Virtqueue } from "../../core/device.ts";
import type { Loop } from "../../core/loop.ts";
import { Vring } from "../../core/vring.ts";
import { createEventFd } from "../../ffi/mod.ts";
import { DriverRing } from "./driver.ts";
import { regionSpec } from "./guest.ts";
import { pause, until } from "./until.ts";
import {
  DATA,
  kickWith,
  RING,
  SIZE,
  signalled,
  useVring,
  type VringHarness,
} from "./vring-harness.ts";

describe("A running Vring", () => {
  const suite = useVring();
  let t: VringHarness;
  beforeEach(() => {
    t = suite.current;
  });

  test("answers a stop with the index to go on from, and goes on from there", async () => {
    t.vring.setBase(0);
    t.start().close();
    t.offer();
    t.vring.scheduleDrain();
    await t.used(1);
    assert.equal(await t.stopped(), 1);
    assert.equal(t.vring.running, false);
    assert.equal(await t.stopped(), 1, "a ring that is stopped keeps its index");
    t.offer();
    t.vring.setKick(createEventFd());
    await t.used(2);
    assert.deepEqual(
      t.ring.reap().map(({ id }) => id),
      [0, 1],
    );
  });

  test("waits with a stop until the device has completed what it holds", async () => {
    t.device.handle = (chain) => {
      t.held.push(chain.hold());
      return PENDING;
    };
    t.start().close();
    t.offer();
    t.offer();
    t.vring.scheduleDrain();
    await until(() => t.held.length === 2);
    let base = -1;
    t.vring.stop((index) => {
      base = index;
    });
    t.offer();
    t.vring.scheduleDrain();
    await pause(20);
    assert.deepEqual([base, t.held.length], [-1, 2]);
    t.held[1]!.complete(7);
    await t.used(1);
    assert.equal(base, -1);
    t.held[0]!.complete(5);
    await until(() => base === 2);
    assert.deepEqual(t.ring.reap(), [
      { id: 1, length: 7 },
      { id: 0, length: 5 },
    ]);
    assert.deepEqual(t.events, ["started 3", "stopping 3"]);
  });

  test("tells the device of a stop when the front-end has disabled the ring before", async () => {
    // As QEMU does it: SET_VRING_ENABLE 0, then GET_VRING_BASE.
    t.device.handle = (chain) => {
      t.held.push(chain.hold());
      return PENDING;
    };
    t.device.stopping = () => {
      t.events.push("stopping");
      for (const chain of t.held) chain.complete(0);
    };
    t.start().close();
    t.offer();
    t.vring.scheduleDrain();
    await until(() => t.held.length === 1);
    t.vring.disable(() => {});
    const base = await Promise.race([t.stopped(), pause(5000).then(() => "nothing")]);
    assert.equal(base, 1);
    assert.deepEqual(t.events, ["started 3", "stopping"]);
  });

  test("tells the device of each start once", async () => {
    t.start().close();
    t.vring.enable();
    t.vring.enable();
    await t.stopped();
    await t.stopped();
    t.vring.setKick(createEventFd());
    await t.stopped();
    assert.deepEqual(t.events, ["started 3", "stopping 3", "started 3", "stopping 3"]);
  });

  test("leaves a chain that the device stops at, until it resumes", async () => {
    let ready = false;
    let queue: Virtqueue | null = null;
    t.device.started = (started) => {
      queue = started;
    };
    t.device.handle = () => (ready ? 0 : STOP);
    t.start().close();
    t.offer();
    t.vring.scheduleDrain();
    await pause(20);
    assert.deepEqual([t.ring.shownUsed, queue!.inFlight], [0, 0]);
    ready = true;
    queue!.resume();
    await t.used(1);
    assert.equal(await t.stopped(), 1);
  });

  test("lets the device make use of chains when it wants", async () => {
    let queue: Virtqueue | null = null;
    t.device.started = (started) => {
      queue = started;
    };
    delete (t.device as { handle?: unknown }).handle;
    t.start().close();
    t.offer();
    t.offer();
    await until(() => queue !== null);
    await pause(5);
    assert.equal(queue!.next(), true);
    queue!.chain.writeU8(0, 1);
    queue!.complete(queue!.chain.head, 1);
    await t.used(1);
    assert.equal(queue!.next(), true);
    queue!.complete(queue!.chain.head, 2);
    queue!.publish();
    assert.equal(queue!.next(), false);
    assert.deepEqual(
      t.ring.reap().map(({ length }) => length),
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
      t.device.handle = handle as NonNullable<Device["handle"]>;
      t.start().close();
      t.offer();
      t.vring.scheduleDrain();
      await until(() => t.records.some(({ level }) => level === "error"));
      assert.ok(signalled(t.err));
      assert.equal(t.ring.shownUsed, 0);
      const base = await Promise.race([t.stopped(), pause(5000).then(() => "nothing")]);
      assert.equal(base, 0, "the chain that was not served is still available");
      t.device.handle = () => 0;
      t.vring.setKick(createEventFd());
      await t.used(1);
    });
  }

  test("breaks at what the driver does wrong, and works after it is set up again", async () => {
    t.start().close();
    t.offer();
    t.ring.push(99);
    t.ring.show();
    t.vring.scheduleDrain();
    await until(() => t.records.some(({ level }) => level === "error"));
    const { message, fields } = t.records.find(({ level }) => level === "error")!;
    assert.match(message, /^The driver broke the queue: available ring entry 1 holds 99/);
    assert.deepEqual(fields, { queue: 3, rule: "virtio 1.3 2.7.5" });
    assert.ok(signalled(t.err));
    assert.equal(t.ring.shownUsed, 1, "what came before is completed");
    t.offer();
    t.vring.scheduleDrain();
    await pause(20);
    assert.equal(t.ring.shownUsed, 1);
    assert.equal(await t.stopped(), 1);
    t.ring = new DriverRing(t.guest, { size: SIZE, at: RING });
    t.offer();
    t.vring.setBase(0);
    t.vring.setKick(createEventFd());
    await t.used(1);
  });

  test("goes on after a pause on memory that has changed meanwhile", async () => {
    await t.holdOne();
    let quiet = false;
    t.vring.suspend(() => {
      quiet = true;
    });
    await pause(5);
    assert.equal(quiet, false);
    t.held[0]!.complete(1);
    await until(() => quiet);
    const fds = t.guest.regions.map(() => t.guest.files[0]!);
    t.guest.memory.replace(t.guest.regions.map(regionSpec), fds);
    t.vring.unsuspend();
    t.offer();
    t.vring.scheduleDrain();
    await until(() => t.held.length === 2);
    t.held[1]!.complete(2);
    await t.used(2);
    assert.deepEqual(
      t.ring.reap().map(({ length }) => length),
      [1, 2],
    );
    assert.deepEqual(t.events, ["started 3", "stopping 3", "started 3"]);
  });

  test("breaks when its own memory is taken away, and can be stopped", async () => {
    t.start().close();
    await pause(5);
    t.vring.suspend(() => {});
    t.guest.memory.replace([], []);
    t.vring.unsuspend();
    assert.ok(signalled(t.err));
    assert.match(
      String(t.records.at(-1)!.fields.reason),
      /descriptor table.*not in one memory region/,
    );
    assert.equal(await t.stopped(), 0);
  });

  test("gives up on a device that does not complete, and never uses that memory again", async () => {
    // Ten seconds pass at once.
    const { loop } = suite;
    const hurried = {
      watch: loop.watch.bind(loop),
      every: loop.every.bind(loop),
      defer: loop.defer.bind(loop),
      poll: loop.poll.bind(loop),
      unpoll: loop.unpoll.bind(loop),
      after: (_: number, task: () => void) => loop.after(1, task),
    } as unknown as Loop;
    t.vring = new Vring(3, { name: "test" }, { ...t.context, loop: hurried });
    let haunted = 0;
    t.guest.memory.haunt = () => void haunted++;
    const held = await t.holdOne();
    assert.equal(await t.stopped(), 1);
    assert.equal(haunted, 1);
    assert.match(t.records.at(-1)!.message, /did not complete its requests in 10000 ms/);
    assert.equal(held.live, false);
    assert.equal(held.write(Uint8Array.of(1, 2, 3)), 0);
    held.complete(3);
    await pause(5);
    assert.equal(t.ring.shownUsed, 0);
    t.vring.setKick(createEventFd());
    t.offer();
    t.vring.scheduleDrain();
    await until(() => t.held.length === 2);
  });

  for (const hook of ["started", "stopping"] as const) {
    test(`survives a device whose ${hook}() throws`, async () => {
      t.device[hook] = () => {
        throw new Error("on purpose");
      };
      t.start().close();
      await pause(5);
      assert.equal(await t.stopped(), 0);
      assert.ok(t.records.some(({ message }) => /The device failed.*on purpose/.test(message)));
      delete t.device[hook];
      t.vring.setKick(createEventFd());
      t.offer();
      t.vring.scheduleDrain();
      await t.used(1);
    });
  }

  test("breaks, and tells nobody else, when a device takes a wrong chain by itself", async () => {
    let queue: Virtqueue | null = null;
    t.device.started = (started) => {
      queue = started;
    };
    t.device.handle = () => STOP;
    t.start().close();
    await until(() => queue !== null && t.ring.usedFlags === 0);
    t.ring.push(77);
    t.ring.show();
    assert.equal(queue!.next(), false);
    assert.ok(signalled(t.err));
    assert.match(t.records.at(-1)!.message, /The driver broke the queue: .* holds 77/);
    assert.equal(await t.stopped(), 0);
  });

  test("lets the device submit what it has gathered before completions are shown", async () => {
    const shown: number[] = [];
    t.device.flush = () => void shown.push(t.ring.shownUsed);
    t.offer();
    t.offer();
    t.start().close();
    await t.used(2);
    assert.equal(shown[0], 0);
    assert.equal(shown.at(-1), 2);
  });

  test("gives other queues their turn while it has more than enough to do", async () => {
    const order: number[] = [];
    t.device.handle = (_, queue) => {
      order.push(queue.index);
      return 0;
    };
    const large = new DriverRing(t.guest, { size: 1024, at: 0x10000 });
    const busy = new Vring(5, { name: "busy" }, t.context);
    busy.setSize(1024);
    busy.setAddresses(t.addresses(large));
    for (let i = 0; i < 1024; i++) large.offer([{ address: DATA, length: 1, writable: true }]);
    t.offer();
    t.setUp();
    busy.enable();
    t.vring.enable();
    busy.setKick(createEventFd());
    t.vring.setKick(createEventFd());
    await until(() => order.length === 1025);
    assert.ok(order.indexOf(3) < 1024, "the small queue waited for all of the large one");
    busy.dispose();
  });

  test("goes on past the end of the index, again and again", async () => {
    let count = 0;
    t.device.handle = () => ++count % 7;
    t.vring.setBase(0);
    using kick = t.start();
    for (let i = 0; i < 20_000; i++) {
      while (t.ring.free.length > 0) t.offer();
      kickWith(kick);
      if (i % 500 === 0) await t.used(SIZE);
      else t.vring.scheduleDrain();
      t.ring.reap();
      if (count > 140_000) break;
      if (i % 10 === 0) await Promise.resolve();
    }
    await until(() => t.ring.reap().length === 0 && t.ring.free.length === SIZE);
    assert.equal(await t.stopped(), t.ring.availableIndex);
    assert.equal(t.ring.usedIndex, t.ring.availableIndex);
  });
});
