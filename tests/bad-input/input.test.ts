/** Rows I1 and I2 of the catalogue: what no input driver should do. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { EventType } from "../../devices/input/mod.ts";
import { connectUnix, libc } from "../../ffi/mod.ts";
import { Frontend, InputDriver, sleep, type Vring } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { fdCount } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";

const { KEY, LED } = EventType;

describe("an input device and bad input", () => {
  const folder = new Folder();
  const listen = folder.at("listen");
  let program: Program;
  let descriptors = 0;
  before(() => {
    const command = [launcher("vhost-user-input"), "--socket-path=SOCKET"];
    program = new Program([...command, `--listen=${listen}`, "--log-level=debug"], { folder });
    serves();
    // The back-end may still have to notice that those who tried it are gone.
    let before = -1;
    descriptors = until(() => {
      const now = fdCount(program.pid);
      if (now === before) return now;
      before = now;
      sleep(300);
      return null;
    }, "an end of changes");
  });
  after(() => {
    assert.ok(program.stop(), "SIGTERM ends the back-end");
    program[Symbol.dispose]();
    folder[Symbol.dispose]();
  });

  function command(text: string): void {
    using remote = connectUnix(listen);
    const data = new Uint8Array(new TextEncoder().encode(`${text}\n`));
    assert.equal(libc.write(remote.number, data, data.length), data.length);
  }

  /** Everything still works, and nothing is left of what was tried. */
  function serves(): void {
    {
      using driver = InputDriver.connect(program.socket);
      command("key a");
      assert.deepEqual(
        driver.read(4).map(({ code }) => code),
        [30, 0, 30, 0],
      );
      driver.send({ type: LED, code: 1, value: 1 });
    }
    if (descriptors > 0) {
      until(() => (fdCount(program.pid) === descriptors ? true : null), "closing descriptors");
    }
    assert.doesNotMatch(program.log, /The device failed|TypeError|RangeError/);
  }

  /** Offers one chain, whose buffers are given by length and direction. */
  function offer(
    { memory }: Frontend,
    vring: Vring,
    buffers: readonly (readonly [length: number, writable: boolean])[],
  ): number {
    const { ring } = vring;
    ring.clear();
    let address = 0;
    for (const [length, writable] of buffers) {
      address = memory.allocate(Math.max(length, 1));
      memory.bytes(address, Math.max(length, 1)).fill(0xff);
      ring.push(address, length, writable);
    }
    assert.ok(ring.add(77) >= 0);
    return address;
  }

  it("I1: gives event buffers back empty that hold no event, and uses those that do", () => {
    const frontend = Frontend.open(program.socket);
    using _ = frontend;
    const events = frontend.addVring(0, { size: 16 });
    const status = frontend.addVring(1, { size: 16 });
    frontend.start();
    const writable = (...lengths: number[]) => lengths.map((length) => [length, true] as const);
    for (const buffers of [
      writable(1),
      writable(7),
      writable(4, 3),
      [[8, false]] as const,
      [[64, false], ...writable(7)] as const,
    ]) {
      offer(frontend, events, buffers);
    }
    offer(frontend, events, writable(1, 2, 5));
    offer(frontend, events, [[3, false], ...writable(4, 4000)]);
    const last = offer(frontend, events, writable(4096));
    offer(frontend, events, writable(8));
    events.publish();
    command("key a");
    const written: number[] = [];
    while (written.length < 9) {
      assert.ok(events.wait());
      while (events.ring.next()) written.push(events.ring.written);
    }
    assert.deepEqual(written, [0, 0, 0, 0, 0, 8, 8, 8, 8]);
    assert.deepEqual(
      [...frontend.memory.read(last, 16)],
      [KEY, 0, 30, ...Array(5).fill(0), ...Array(8).fill(0xff)],
    );
    assert.equal(events.broken(), false);
    assert.equal(status.broken(), false);
    frontend.disconnect();
    serves();
  });

  it("I1: takes status buffers of any size and content, and writes nothing to them", () => {
    using driver = InputDriver.connect(program.socket, { ringSize: 16 });
    const { vring } = driver.status;
    const { memory } = driver.frontend;
    for (const buffers of [
      [[1, false]],
      [[7, false]],
      [[9, false]],
      [[1_000_000, false]],
      [
        [3, false],
        [5, false],
      ],
      [
        [8, false],
        [4096, true],
      ],
      [[64, true]],
    ] as const) {
      const address = offer(driver.frontend, vring, buffers);
      vring.publish();
      assert.ok(vring.wait());
      vring.ring.next();
      assert.equal(vring.ring.written, 0);
      assert.ok(memory.read(address, 1)[0] === 0xff);
    }
    for (let type = 0; type < 0x10000; type += 251) {
      driver.send({ type, code: (type * 7) & 0xffff, value: -type });
    }
    assert.equal(vring.broken(), false);
    goesOn(driver);
  });

  function goesOn(driver: InputDriver): void {
    command("key b");
    assert.equal(driver.read(4)[0]!.code, 48);
  }

  it("I1: breaks only the queue that a wrong chain came on", () => {
    using driver = InputDriver.connect(program.socket, { buffers: 0 });
    const { ring } = driver.events;
    ring.clear();
    ring.push(0x7777_0000_0000, 8, true);
    ring.add(0);
    driver.events.publish();
    command("key a");
    assert.ok(driver.events.broken(5000), "the event queue is broken");
    assert.equal(driver.send({ type: LED, code: 1, value: 1 }), 0);
    driver.frontend.disconnect();
    serves();
  });

  it("I2: answers every selection with at most 128 bytes, and config writes of any form", () => {
    const frontend = Frontend.open(program.socket);
    using _ = frontend;
    for (let select = 0; select < 256; select++) {
      for (const subsel of [0, 1, 0x11, 0x80, 0xff]) {
        frontend.setConfig(0, Uint8Array.of(select, subsel));
        const space = frontend.getConfig(0, 136)!;
        assert.ok(space[2]! <= 128);
        const rest = space.subarray(8 + space[2]!);
        assert.ok(
          rest.every((byte) => byte === 0),
          "nothing behind the answer",
        );
      }
    }
    for (const [at, length] of [
      [0, 136],
      [0, 1],
      [1, 1],
      [1, 135],
      [135, 1],
      [2, 100],
    ] as const) {
      frontend.setConfig(at, new Uint8Array(length).fill(0x5a));
    }
    // The connection goes on where a write can be refused, and reads zeros past the end.
    for (const [at, length] of [
      [0, 137],
      [136, 1],
      [200, 50],
    ] as const) {
      assert.throws(() => frontend.setConfig(at, new Uint8Array(length)));
    }
    assert.deepEqual(frontend.getConfig(136, 64), new Uint8Array(64));
    frontend.disconnect();
    serves();
  });

  it("I2: a front-end that goes in the midst of a packet leaves nothing to the next one", () => {
    for (let i = 0; i < 20; i++) {
      using driver = InputDriver.connect(program.socket, { buffers: 1 });
      command('type "abc"');
      until(() => (driver.events.ring.ready ? true : null), "an event");
      driver.frontend.disconnect();
    }
    serves();
  });
});
