/** `vhost-user-input --evdev-path`, with a device that a library in the place of libc makes up. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Abs, Button, EventType, Syn } from "../../devices/input/mod.ts";
import { InputDriver, type InputEvent, InputSelect } from "../../frontend/mod.ts";
import { type EvdevPlan, FakeEvdev, type Triple } from "../support/evdev.ts";
import { launcher, Program, until } from "../support/program.ts";
import { compilerMissing } from "../tools/build.ts";

const { SYN, KEY, REL, ABS, MSC, LED, SND, REP } = EventType;
const REPORT: Triple = [SYN, Syn.REPORT, 0];

const keyboard: EvdevPlan = {
  name: "A keyboard of tests",
  serial: "0001",
  ids: [3, 0x046d, 0xc31c, 0x0110],
  codes: {
    [KEY]: Array.from({ length: 120 }, (_, i) => i + 1),
    [MSC]: [4],
    [LED]: [0, 1, 2],
    [SND]: [1, 2],
    [REP]: [0, 1],
  },
};

const touchscreen: EvdevPlan = {
  name: "A panel of tests",
  properties: [1],
  codes: { [KEY]: [Button.TOUCH], [ABS]: [0, 1, 0x2f, 0x35, 0x36, 0x39] },
  axes: {
    0: [100, -5, 4095, 1, 2, 31],
    1: [100, 0, 2047, 3, 4, 30],
    [Abs.MT_SLOT]: [0, 0, 3, 0, 0, 0],
    [Abs.MT_POSITION_X]: [0, 0, 4095, 0, 0, 31],
    [Abs.MT_POSITION_Y]: [0, 0, 2047, 0, 0, 30],
    [Abs.MT_TRACKING_ID]: [0, 0, 65535, 0, 0, 0],
  },
};

class Setting implements Disposable {
  readonly evdev: FakeEvdev;
  readonly program: Program;

  constructor(plan: EvdevPlan, ...args: readonly string[]) {
    this.evdev = new FakeEvdev(plan);
    const command = [launcher("vhost-user-input"), "--socket-path=SOCKET"];
    this.program = new Program([...command, `--evdev-path=${this.evdev.path}`, ...args], {
      env: this.evdev.env,
    });
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.evdev[Symbol.dispose]();
  }
}

const triples = (events: readonly InputEvent[]): Triple[] =>
  events.map(({ type, code, value }) => [type, code, value]);

const bits = (map: Uint8Array): number[] =>
  [...map].flatMap((byte, i) =>
    Array.from({ length: 8 }, (_, bit) => bit)
      .filter((bit) => byte & (1 << bit))
      .map((bit) => i * 8 + bit),
  );

const words = (data: Uint8Array): number[] => [...new Int32Array(data.slice().buffer)];

describe("an input device of the host", { skip: compilerMissing() ?? false }, () => {
  it("is described as it is, without EVIOCGBIT for repetition, which evdev does not have", () => {
    using setting = new Setting(keyboard);
    using driver = InputDriver.connect(setting.program.socket);
    const name = (select: number) => new TextDecoder().decode(driver.describe(select));
    assert.equal(name(InputSelect.NAME), keyboard.name);
    assert.equal(name(InputSelect.SERIAL), keyboard.serial);
    assert.deepEqual(
      [...new Uint16Array(driver.describe(InputSelect.IDS).slice().buffer)],
      [...keyboard.ids!],
    );
    for (const [type, codes] of Object.entries(keyboard.codes!)) {
      assert.deepEqual(bits(driver.describe(InputSelect.EVENT_BITS, Number(type))), codes);
    }
    assert.equal(driver.describe(InputSelect.EVENT_BITS, REL).length, 0);
    assert.equal(setting.evdev.grabs, 1);
  });

  it("has the ranges of its axes and its properties", () => {
    using setting = new Setting(touchscreen, "--no-grab", "--name=Renamed", "--serial=s/n 7");
    using driver = InputDriver.connect(setting.program.socket);
    for (const [axis, [, ...info]] of Object.entries(touchscreen.axes!)) {
      assert.deepEqual(words(driver.describe(InputSelect.AXIS, Number(axis))), info);
    }
    assert.deepEqual(bits(driver.describe(InputSelect.PROPERTIES)), [1]);
    assert.equal(new TextDecoder().decode(driver.describe(InputSelect.NAME)), "Renamed");
    assert.equal(new TextDecoder().decode(driver.describe(InputSelect.SERIAL)), "s/n 7");
    assert.equal(setting.evdev.grabs, 0);
  });

  it("sends a burst of 64 keys through a ring of four, complete and in order", () => {
    using setting = new Setting(keyboard);
    using driver = InputDriver.connect(setting.program.socket);
    const burst = Array.from({ length: 64 }, (_, i): Triple[] => [
      [MSC, 4, 0x70004 + i],
      [KEY, i + 1, 1],
      REPORT,
      [KEY, i + 1, 0],
      REPORT,
    ]).flat();
    setting.evdev.emit(...burst);
    assert.deepEqual(triples(driver.read(burst.length)), burst);
    assert.ok(driver.quiet(20));
  });

  it("sends packets of six events through a ring of four, and parts of reads as one", () => {
    using setting = new Setting(touchscreen);
    using driver = InputDriver.connect(setting.program.socket);
    const packet: Triple[] = [
      [ABS, Abs.MT_SLOT, 1],
      [ABS, Abs.MT_TRACKING_ID, 7],
      [ABS, Abs.MT_POSITION_X, 4000],
      [ABS, Abs.MT_POSITION_Y, 1000],
      [KEY, Button.TOUCH, 1],
      REPORT,
    ];
    setting.evdev.emit(...packet);
    assert.deepEqual(triples(driver.read(6)), packet);
    const lifted: Triple[] = [[ABS, Abs.MT_TRACKING_ID, -1], [KEY, Button.TOUCH, 0], REPORT];
    const data = new Uint8Array(24 * 3);
    const view = new DataView(data.buffer);
    lifted.forEach(([type, code, value], i) => {
      view.setUint16(i * 24 + 16, type, true);
      view.setUint16(i * 24 + 18, code, true);
      view.setInt32(i * 24 + 20, value, true);
    });
    setting.evdev.write(data.slice(0, 31));
    assert.ok(driver.quiet(50), "a packet comes as a whole");
    setting.evdev.write(data.slice(31));
    assert.deepEqual(triples(driver.read(3)), lifted);
  });

  it("keeps repetition and what it was told itself from the guest", () => {
    using setting = new Setting(keyboard);
    using driver = InputDriver.connect(setting.program.socket);
    setting.evdev.emit(
      [KEY, 30, 1],
      REPORT,
      [KEY, 30, 2],
      REPORT,
      [LED, 1, 1],
      [SND, 2, 1],
      REPORT,
    );
    setting.evdev.emit([KEY, 30, 0], REPORT);
    // Nor do packets come that have nothing else in them.
    assert.deepEqual(triples(driver.read(4)), [[KEY, 30, 1], REPORT, [KEY, 30, 0], REPORT]);
    assert.ok(driver.quiet(20));
  });

  it("gets LEDs, sounds and repetition from the driver, and nothing else", () => {
    using setting = new Setting(keyboard);
    using driver = InputDriver.connect(setting.program.socket);
    const wanted: Triple[] = [
      [LED, 1, 1],
      [SND, 2, 440],
      [REP, 0, 300],
      [LED, 1, 0],
    ];
    const refused: Triple[] = [
      [KEY, 30, 1],
      [LED, 9, 1],
      [LED, 0xffff, 1],
      [ABS, 0, 5],
      [0xffff, 0, 0],
      [MSC, 4, 1],
    ];
    const mixed = [wanted[0]!, ...refused, ...wanted.slice(1)];
    for (const [type, code, value] of mixed) {
      assert.equal(driver.send({ type, code, value }), 0);
    }
    const written = setting.evdev.written(8);
    assert.deepEqual(
      written,
      wanted.flatMap((event) => [event, [0, 0, 0]]),
    );
  });

  for (const how of ["EOF", "ENODEV"] as const) {
    it(`that ends with ${how} releases its keys, and the program says so and ends`, async () => {
      using setting = new Setting(keyboard);
      using driver = InputDriver.connect(setting.program.socket);
      setting.evdev.emit([KEY, 42, 1], REPORT, [KEY, 30, 1], REPORT);
      driver.read(4);
      setting.evdev.unplug(how);
      const last = triples(driver.read(4));
      assert.deepEqual(last, [REPORT, [KEY, 30, 0], [KEY, 42, 0], REPORT]);
      assert.deepEqual(await setting.program.exit, { code: 1, signal: null });
      const why = how === "EOF" ? "it is at its end" : "no such device";
      const lines = setting.program.log.trim().split("\n");
      assert.equal(
        lines.at(-1),
        `vhost-user-input: The input device ${setting.evdev.path} is gone: ${why}`,
      );
    });

    it(`that ends with ${how} is waited for with --wait`, () => {
      using setting = new Setting(keyboard, "--wait");
      using driver = InputDriver.connect(setting.program.socket);
      setting.evdev.emit([KEY, 30, 1], REPORT);
      driver.read(2);
      setting.evdev.unplug(how);
      assert.deepEqual(triples(driver.read(3)), [REPORT, [KEY, 30, 0], REPORT]);
      driver.send({ type: LED, code: 1, value: 1 });
      setting.evdev.plugIn();
      setting.evdev.emit([KEY, 31, 1], REPORT);
      assert.deepEqual(triples(driver.read(2)), [[KEY, 31, 1], REPORT]);
      assert.equal(setting.evdev.grabs, 2);
      assert.ok(setting.program.stop());
    });
  }

  it("is waited for at the start with --wait, and missed without", async () => {
    using evdev = new FakeEvdev(keyboard, false);
    const command = [launcher("vhost-user-input"), `--evdev-path=${evdev.path}`];
    const options = { env: evdev.env, socket: null };
    using hasty = new Program([...command, "--socket-path=/nonexistent/s"], options);
    assert.deepEqual(await hasty.exit, { code: 1, signal: null });
    assert.match(hasty.log, /open .*event0. failed: no such file or directory/);
    const socket = evdev.folder.at("s");
    using patient = new Program([...command, `--socket-path=${socket}`, "--wait"], options);
    until(() => (/Waiting for the input device/.test(patient.log) ? true : null), "waiting");
    evdev.plugIn();
    using driver = InputDriver.connect(socket, { timeout: 10_000 });
    evdev.emit([KEY, 1, 1], REPORT);
    assert.equal(driver.read(2).length, 2);
  });

  it("that lost events is asked for its state, contacts included", () => {
    using setting = new Setting(touchscreen);
    using driver = InputDriver.connect(setting.program.socket);
    setting.evdev.emit([ABS, Abs.MT_SLOT, 0], [ABS, Abs.MT_TRACKING_ID, 5], [ABS, 0, 7], REPORT);
    driver.read(4);
    setting.evdev.answer({
      ...touchscreen,
      axes: { ...touchscreen.axes, 0: [9, -5, 4095, 1, 2, 31] },
      down: [Button.TOUCH],
      contacts: {
        [Abs.MT_TRACKING_ID]: [-1, 6, -1, -1],
        [Abs.MT_POSITION_X]: [1, 2, 0, 0],
        [Abs.MT_POSITION_Y]: [3, 4, 0, 0],
      },
    });
    // The kernel keeps the newest events behind the gap. They are older than the state.
    setting.evdev.emit(
      [ABS, 0, 8],
      [SYN, Syn.DROPPED, 0],
      [ABS, 1, 1],
      REPORT,
      [KEY, Button.TOUCH, 0],
      REPORT,
    );
    until(() => (/read too slowly/.test(setting.program.log) ? true : null), "asking");
    setting.evdev.emit([ABS, 1, 2], REPORT);
    const events = triples(driver.read(3)).concat(triples(driver.read(1)));
    while (events.at(-2)?.[1] !== Abs.Y || events.at(-2)?.[2] !== 2) {
      events.push(...triples(driver.read(1)));
    }
    const touches = events.filter(([type, code]) => type === KEY && code === Button.TOUCH);
    assert.deepEqual(touches, [[KEY, Button.TOUCH, 1]]);
    const at = (code: number, value: number) =>
      events.findIndex((event) => event[0] === ABS && event[1] === code && event[2] === value);
    assert.ok(at(0, 9) >= 0 && at(1, 1) < 0, "the state comes in place of what makes no sense");
    assert.ok(at(Abs.MT_TRACKING_ID, -1) < at(Abs.MT_SLOT, 1), "the first contact is gone");
    assert.ok(at(Abs.MT_SLOT, 1) < at(Abs.MT_TRACKING_ID, 6), "and the second one is there");
  });

  it("keeps the newest events for a driver that does not take them, and then tells the state", () => {
    using setting = new Setting(keyboard);
    using driver = InputDriver.connect(setting.program.socket, { buffers: 2 });
    // Two buffers take the first of these; all others wait, and more than fit.
    setting.evdev.emit([KEY, 50, 1], [MSC, 4, 50], REPORT);
    const count = 3000;
    for (let i = 0; i < count; i++) {
      const value = 1 - (i % 2);
      setting.evdev.emit([MSC, 4, i], [KEY, 20 + ((i >> 1) % 20), value], REPORT);
    }
    setting.evdev.emit([KEY, 50, 0], REPORT, [KEY, 51, 1], REPORT);
    until(() => (/packets were dropped/.test(setting.program.log) ? true : null), "dropping");
    driver.offerAll();
    const events: Triple[] = [];
    while (!events.some(([type, code]) => type === KEY && code === 51)) {
      events.push(...triples(driver.read(1)));
    }
    assert.deepEqual(events.slice(0, 3), [[KEY, 50, 1], [MSC, 4, 50], REPORT], "what was begun");
    assert.deepEqual(events.slice(3, 5), [[SYN, Syn.DROPPED, 0], REPORT]);
    // More may have been dropped while the driver took the first.
    const last = events.findLastIndex(([type, code]) => type === SYN && code === Syn.DROPPED);
    const newest = events.slice(last).filter(([type]) => type === MSC);
    const kept = newest.map(([, , value]) => value);
    assert.deepEqual(
      kept,
      Array.from({ length: kept.length }, (_, i) => count - kept.length + i),
      "the newest are there without a gap",
    );
    assert.ok(kept.length > 1000, `${kept.length}`);
    const down = new Set<number>();
    for (const [type, code, value] of events) {
      if (type !== KEY) continue;
      assert.notEqual(down.has(code), value === 1, `key ${code} goes ${value} twice`);
      if (value === 1) down.add(code);
      else down.delete(code);
    }
    assert.deepEqual([...down], [51]);
  });
});
