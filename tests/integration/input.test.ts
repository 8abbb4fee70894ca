/** `vhost-user-input` as a keyboard, mouse, tablet and touch screen of its own. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { Abs, Button, EventType, Rel } from "../../devices/input/mod.ts";
import { connectUnix, libc } from "../../ffi/mod.ts";
import { InputDriver, ringFeatures } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { InputProgram, Remote, type Triple, triples } from "../support/input.ts";
import { fdCount } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";

const { SYN, KEY, REL, ABS, LED } = EventType;

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
    using device = new InputProgram("--keymap=de");
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
    using device = new InputProgram(`--kind=${kind}`);
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
    using device = new InputProgram();
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
    using device = new InputProgram();
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
