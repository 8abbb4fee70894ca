/** `vhost-user-input` as a keyboard, mouse, tablet and touch screen of its own. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { Abs, Button, EventType, Rel } from "../../devices/input/mod.ts";
import { connectUnix, type Fd, libc } from "../../ffi/mod.ts";
import {
  Frontend,
  InputConfigSpace,
  InputDriver,
  type InputEvent,
  InputSelect,
  ringFeatures,
} from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { fdCount } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";

const { SYN, KEY, REL, ABS, LED } = EventType;

type Triple = readonly [number, number, number];

const triples = (events: readonly InputEvent[]): Triple[] =>
  events.map(({ type, code, value }) => [type, code, value]);

/** A program that takes commands from a socket of its own. */
class Device implements Disposable {
  readonly folder = new Folder();
  readonly listen = this.folder.at("listen");
  readonly program: Program;

  constructor(...args: readonly string[]) {
    const command = [launcher("vhost-user-input"), "--socket-path=SOCKET"];
    this.program = new Program([...command, `--listen=${this.listen}`, ...args], {
      folder: this.folder,
    });
  }

  get socket(): string {
    return this.program.socket;
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

/** A program that sends commands, and what it is answered. */
class Remote implements Disposable {
  readonly fd: Fd;
  #text = "";

  constructor(path: string) {
    this.fd = connectUnix(path);
    this.fd.setNonBlocking();
  }

  send(...lines: readonly string[]): void {
    const data = new TextEncoder().encode(`${lines.join("\n")}\n`);
    assert.equal(libc.write(this.fd.number, new Uint8Array(data), data.length), data.length);
  }

  /** The next line. */
  line(): string {
    const data = new Uint8Array(new ArrayBuffer(4096));
    return until(() => {
      const got = libc.read(this.fd.number, data, data.length);
      if (got > 0) this.#text += new TextDecoder().decode(data.subarray(0, got));
      const end = this.#text.indexOf("\n");
      if (end < 0) return null;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      return line;
    }, "an answer");
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

describe("the config space of an input device", () => {
  let device: Device;
  before(() => {
    device = new Device("--kind=multitouch", `--name=${"é".repeat(63)}xy`, "--serial=42");
  });
  after(() => device[Symbol.dispose]());

  it("has the right answer to each of 65536 questions", () => {
    using driver = InputDriver.connect(device.socket, { features: ringFeatures });
    const axes = [Abs.X, Abs.Y, Abs.MT_SLOT, 0x35, 0x36, Abs.MT_TRACKING_ID];
    const sizes = new Map<number, number>([
      [InputSelect.NAME << 8, 128],
      [InputSelect.SERIAL << 8, 2],
      [InputSelect.IDS << 8, 8],
      [InputSelect.PROPERTIES << 8, 1],
      [(InputSelect.EVENT_BITS << 8) | KEY, 42],
      [(InputSelect.EVENT_BITS << 8) | ABS, 8],
      ...axes.map((axis): [number, number] => [(InputSelect.AXIS << 8) | axis, 20]),
    ]);
    for (let pair = 0; pair < 65_536; pair++) {
      const answer = driver.describe(pair >> 8, pair & 0xff);
      if (answer.length !== (sizes.get(pair) ?? 0)) {
        assert.fail(`${pair.toString(16)} is answered by ${answer.length} bytes`);
      }
    }
    for (const [pair, size] of sizes) {
      assert.equal(
        driver.describe(pair >> 8, pair & 0xff, true).length,
        size,
        "written as a whole",
      );
    }
    const range = new Int32Array(driver.describe(InputSelect.AXIS, Abs.MT_SLOT).slice().buffer);
    assert.deepEqual([...range], [0, 9, 0, 0, 0]);
  });

  it("cuts a long name where a character ends", () => {
    using driver = InputDriver.connect(device.socket);
    const name = new TextDecoder("utf-8", { fatal: true }).decode(driver.describe(1));
    assert.equal(name, `${"é".repeat(63)}xy`);
  });

  it("takes the choice out of any write, and leaves the rest as it is", () => {
    using driver = InputDriver.connect(device.socket);
    const { frontend } = driver;
    const { size, data } = InputConfigSpace;
    const read = () => frontend.getConfig(0, size)!;
    frontend.setConfig(0, new Uint8Array(size).fill(0xff));
    assert.deepEqual([...read().subarray(0, 8)], [0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    frontend.setConfig(1, Uint8Array.of(0));
    frontend.setConfig(0, Uint8Array.of(InputSelect.SERIAL));
    assert.deepEqual([...read().subarray(0, 3)], [InputSelect.SERIAL, 0, 2]);
    frontend.setConfig(2, new Uint8Array(size - 2).fill(7));
    assert.equal(new TextDecoder().decode(read().subarray(data, data + 2)), "42");
    assert.ok(
      read()
        .subarray(data + 2)
        .every((byte) => byte === 0),
    );
    assert.deepEqual(
      [...frontend.getConfig(data, 1)!],
      [..."4"].map((c) => c.charCodeAt(0)),
    );
  });

  it("begins with no choice for each front-end", () => {
    {
      using driver = InputDriver.connect(device.socket);
      driver.describe(InputSelect.NAME);
    }
    using frontend = Frontend.open(device.socket);
    assert.deepEqual(frontend.getConfig(0, 136)!, new Uint8Array(136));
  });
});

describe("a script", () => {
  const text = [
    "# Comments and empty lines mean nothing.",
    "",
    "key a",
    '  type "Az\\n"  ',
    "pace 1ms",
    "key ctrl+alt+delete",
    "wait 20ms",
    "down shift",
    "up shift",
    "event 4 4 458756",
    "sync",
    "echo all done",
  ].join("\n");
  const press = (code: number, value: number): Triple[] => [
    [KEY, code, value],
    [SYN, 0, 0],
  ];
  const chord = (...codes: readonly number[]): Triple[] => [
    ...codes.flatMap((code) => press(code, 1)),
    ...codes.toReversed().flatMap((code) => press(code, 0)),
  ];
  const events: Triple[] = [
    ...chord(30),
    ...chord(42, 30),
    ...chord(44),
    ...chord(28),
    ...chord(29, 56, 111),
    ...press(42, 1),
    ...press(42, 0),
    [4, 4, 458756],
    [SYN, 0, 0],
  ];

  for (const how of ["a file", "a pipe", "standard input that is a file"]) {
    it(`of ${how} is played when the driver comes`, () => {
      using folder = new Folder();
      const file = folder.at("script");
      writeFileSync(file, text);
      const socket = folder.at("socket");
      const script = how === "a file" ? file : "-";
      const source = { "a file": "</dev/null", "a pipe": `cat ${file} |` }[how] ?? `<${file}`;
      const run = `"$0" --socket-path=${socket} --script=${script}`;
      // A shell between would not pass signals on.
      const line = source.endsWith("|") ? `${source} exec ${run}` : `exec ${run} ${source}`;
      using program = new Program(["bash", "-c", line, launcher("vhost-user-input")], {
        folder,
        socket,
      });
      using driver = InputDriver.connect(socket);
      assert.deepEqual(triples(driver.read(events.length)), events);
      until(() => (/info: all done/.test(program.log) ? true : null), "the echo");
      assert.ok(driver.quiet(20));
      if (!source.endsWith("|")) assert.ok(program.stop());
    });
  }

  it("that is wrong is refused at once, and the line named", async () => {
    using folder = new Folder();
    writeFileSync(folder.at("script"), "key a\nkey ctrl+foo\n");
    const command = [launcher("vhost-user-input"), `--script=${folder.at("script")}`];
    using program = new Program([...command, "--socket-path=SOCKET"], { folder, socket: null });
    assert.deepEqual(await program.exit, { code: 1, signal: null });
    assert.match(
      program.log,
      /^vhost-user-input: Cannot use the script ".*": line 2: Unknown key "foo"\n$/,
    );
  });
});

describe("commands from a socket", () => {
  it("wait for the driver, and are carried out and answered in order", () => {
    using device = new Device("--keymap=de");
    using remote = new Remote(device.listen);
    remote.send('type "zÄ@"', "echo typed", "oops", "echo end");
    using driver = InputDriver.connect(device.socket);
    const events = triples(driver.read(20));
    assert.deepEqual(
      events.filter(([type, , value]) => type === KEY && value === 1).map(([, code]) => code),
      [21, 42, 40, 100, 16],
    );
    assert.equal(remote.line(), "typed");
    assert.equal(remote.line(), 'error: line 3: Unknown command "oops"');
    assert.equal(remote.line(), "end");
  });

  it("are echoed only when the driver has got what was before", () => {
    using device = new Device();
    using driver = InputDriver.connect(device.socket, { buffers: 2 });
    using remote = new Remote(device.listen);
    using other = new Remote(device.listen);
    remote.send("key a", "echo done");
    other.send("wait 50ms", "oops");
    assert.match(other.line(), /^error/);
    const data = new Uint8Array(new ArrayBuffer(16));
    assert.equal(libc.read(remote.fd.number, data, 16), -1, "two of four events are on the way");
    driver.offerAll();
    assert.equal(driver.read(4).length, 4);
    assert.equal(remote.line(), "done");
  });

  it("come through complete however many there are and however slow the guest is", () => {
    using device = new Device();
    using driver = InputDriver.connect(device.socket);
    using remote = new Remote(device.listen);
    const text = "abcdefghij".repeat(600);
    remote.send(`type "${text}"`, "echo typed");
    const events = triples(driver.read(text.length * 4));
    const codes = events.filter(([type, , value]) => type === KEY && value === 1);
    assert.deepEqual(
      codes.map(([, code]) => code),
      [...text].map((c) => [30, 48, 46, 32, 18, 33, 34, 35, 23, 36]["abcdefghij".indexOf(c)]!),
    );
    assert.equal(remote.line(), "typed");
    assert.doesNotMatch(device.program.log, /dropped/);
  });

  it("outlive the program that sent them, whose descriptor is closed then", () => {
    using device = new Device();
    using driver = InputDriver.connect(device.socket);
    const before = fdCount(device.program.pid);
    {
      using remote = new Remote(device.listen);
      remote.send("wait 50ms", "key b");
      libc.write(remote.fd.number, new TextEncoder().encode("key c"), 5);
    }
    const codes = triples(driver.read(8)).filter(([type, , value]) => type === KEY && value === 1);
    assert.deepEqual(
      codes.map(([, code]) => code),
      [48, 46],
    );
    until(() => (fdCount(device.program.pid) === before ? true : null), "closing");
  });

  it("are told about LEDs", () => {
    using device = new Device();
    using driver = InputDriver.connect(device.socket);
    using remote = new Remote(device.listen);
    remote.send("echo there");
    assert.equal(remote.line(), "there");
    driver.send({ type: LED, code: 1, value: 1 });
    assert.equal(remote.line(), "led capslock on");
    driver.send({ type: LED, code: 1, value: 0 });
    driver.send({ type: LED, code: 0, value: 1 });
    assert.deepEqual([remote.line(), remote.line()], ["led capslock off", "led numlock on"]);
  });

  it("of more than 64 KiB in a line end the connection, and no other", () => {
    using device = new Device();
    using driver = InputDriver.connect(device.socket);
    using remote = new Remote(device.listen);
    using loud = new Remote(device.listen);
    const data = new Uint8Array(new ArrayBuffer(4096)).fill(0x61);
    until(() => (libc.write(loud.fd.number, data, 4096) < 0 && closed(loud) ? true : null), "end");
    remote.send("key a");
    assert.equal(driver.read(4).length, 4);
    assert.match(device.program.log, /more than 65536 characters/);
  });

  it("leave nothing behind when the program ends, and a used path is an error", async () => {
    using device = new Device();
    using folder = new Folder();
    const command = [launcher("vhost-user-input"), `--listen=${device.listen}`];
    using second = new Program([...command, "--socket-path=SOCKET"], { folder, socket: null });
    assert.deepEqual(await second.exit, { code: 1, signal: null });
    assert.match(second.log, /another program is listening there/);
    assert.ok(device.program.stop());
    assert.throws(() => connectUnix(device.listen), /ENOENT/);
  });
});

function closed(remote: Remote): boolean {
  return libc.read(remote.fd.number, new Uint8Array(new ArrayBuffer(4096)), 4096) === 0;
}

describe("each kind of device", () => {
  const play = (kind: string, lines: readonly string[], count: number): Triple[] => {
    using device = new Device(`--kind=${kind}`);
    using driver = InputDriver.connect(device.socket);
    using remote = new Remote(device.listen);
    remote.send(...lines);
    const events = triples(driver.read(count));
    assert.ok(driver.quiet(20));
    return events;
  };

  it("mouse: moves, scrolls and clicks", () => {
    assert.deepEqual(play("mouse", ["move 10 -5", "wheel -1 2", "click right 2"], 14), [
      [REL, Rel.X, 10],
      [REL, Rel.Y, -5],
      [SYN, 0, 0],
      [REL, Rel.WHEEL, -1],
      [REL, Rel.HWHEEL, 2],
      [SYN, 0, 0],
      ...[1, 0, 1, 0].flatMap((value): Triple[] => [
        [KEY, Button.RIGHT, value],
        [SYN, 0, 0],
      ]),
    ]);
  });

  it("tablet: goes to a place", () => {
    assert.deepEqual(play("tablet", ["abs 0.5 1", "abs 2 2", "click"], 7), [
      [ABS, Abs.X, 16384],
      [ABS, Abs.Y, 32767],
      [SYN, 0, 0],
      [KEY, Button.LEFT, 1],
      [SYN, 0, 0],
      [KEY, Button.LEFT, 0],
      [SYN, 0, 0],
    ]);
  });

  it("multitouch: follows two contacts", () => {
    const lines = ["touch 0 0 0", "touch 1 1 1", "touch 0 0.5 0", "lift 0", "lift 1", "lift 1"];
    const events = play("multitouch", lines, 26);
    const packets: string[] = [""];
    for (const [type, code, value] of events) {
      if (type === SYN) packets.push("");
      else packets[packets.length - 1] += `${type}:${code.toString(16)}=${value} `;
    }
    assert.deepEqual(packets, [
      "3:2f=0 3:39=0 3:35=0 3:36=0 1:14a=1 3:0=0 3:1=0 ",
      "3:2f=1 3:39=1 3:35=32767 3:36=32767 ",
      "3:2f=0 3:35=16384 3:36=0 3:0=16384 3:1=0 ",
      "3:2f=0 3:39=-1 ",
      "3:2f=1 3:39=-1 1:14a=0 ",
      "",
    ]);
  });
});

describe("an input device under other rings and drivers", () => {
  it("works on packed rings, and by flags alone", () => {
    using device = new Device();
    const packed = ringFeatures | mask(RingFeature.RING_PACKED);
    for (const features of [packed, packed & ~mask(RingFeature.EVENT_IDX), mask(32)]) {
      using driver = InputDriver.connect(device.socket, { features });
      using remote = new Remote(device.listen);
      remote.send('type "hello"', "echo done");
      assert.equal(driver.read(20).length, 20);
      assert.equal(remote.line(), "done");
      assert.equal(driver.send({ type: LED, code: 0, value: 1 }), 0);
      assert.equal(remote.line(), "led numlock on");
    }
  });

  it("keeps events while the guest is stopped, and forgets them with the guest", () => {
    using device = new Device();
    using remote = new Remote(device.listen);
    {
      using driver = InputDriver.connect(device.socket);
      remote.send("key a", "echo 1");
      driver.read(4);
      assert.equal(remote.line(), "1");
      const bases = driver.frontend.stop();
      remote.send("key b", "echo 2");
      driver.frontend.startVrings(driver.frontend.vrings, bases);
      assert.deepEqual(triples(driver.read(4))[0], [KEY, 48, 1]);
      assert.equal(remote.line(), "2");
    }
    using driver = InputDriver.connect(device.socket, { buffers: 1 });
    remote.send("key c");
    until(() => (driver.events.ring.ready ? true : null), "the first event");
    driver.frontend.disconnect();
    using next = InputDriver.connect(device.socket);
    remote.send("key d");
    assert.deepEqual(triples(next.read(4))[0], [KEY, 32, 1], "the rest is for nobody");
  });
});
