/** `ringside desktop`: what is done on the page reaches the keyboard and the tablet. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Abs, Button, EventType, Rel } from "../../devices/input/mod.ts";
import { GpuDisplay, GpuDriver, InputDriver } from "../../frontend/mod.ts";
import { picture, Surface } from "../gpu/screen.ts";
import { eventually, gets, urlOf, WebViewer } from "../gpu/viewer.ts";
import { Folder } from "../support/folder.ts";
import type { Triple } from "../support/input.ts";
import { launcher, Program } from "../support/program.ts";

const { SYN, KEY, REL, ABS } = EventType;
const u32 = (bytes: Uint8Array, at: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const sync: Triple = [SYN, 0, 0];

describe("a desktop", () => {
  let folder: Folder;
  let program: Program;
  let keyboard: InputDriver;
  let tablet: InputDriver;
  let url = "";
  before(() => {
    folder = new Folder();
    const command = [launcher("ringside"), "desktop", `--sockets=${folder.path}`];
    // The last of the three that is there.
    program = new Program(command, { folder, socket: folder.at("tablet.sock") });
    url = urlOf(program);
    keyboard = InputDriver.connect(folder.at("keyboard.sock"));
    tablet = InputDriver.connect(folder.at("tablet.sock"));
  });
  after(() => {
    keyboard?.[Symbol.dispose]();
    tablet?.[Symbol.dispose]();
    program?.[Symbol.dispose]();
    folder?.[Symbol.dispose]();
  });

  it("passes on keys, by their place, and as long as somebody presses them", async () => {
    using one = await WebViewer.connect(url);
    using two = await WebViewer.connect(url);
    await eventually(() => one.messages[0]?.numbers[0] === 1, "the word that there are controls");
    for (const [key, down] of [
      ["ShiftLeft", true],
      ["KeyA", true],
      ["KeyA", true],
      ["KeyA", false],
      ["ShiftLeft", false],
      ["ShiftLeft", false],
      ["NoSuchKey", true],
      ["NoSuchKey", false],
      ["F12", true],
      ["F12", false],
    ] as const) {
      one.send({ key, down });
    }
    await gets(keyboard, [
      [KEY, 42, 1],
      sync,
      [KEY, 30, 1],
      sync,
      [KEY, 30, 0],
      sync,
      [KEY, 42, 0],
      sync,
      [KEY, 88, 1],
      sync,
      [KEY, 88, 0],
      sync,
    ]);
    one.send({ key: "Enter", down: true });
    await gets(keyboard, [[KEY, 28, 1], sync]);
    two.send({ key: "Enter", down: true });
    one.send({ key: "Enter", down: false });
    one.send({ key: "Space", down: true });
    await gets(keyboard, [[KEY, 57, 1], sync]);
    two.send({ key: "Enter", down: false });
    await gets(keyboard, [[KEY, 28, 0], sync]);
    one[Symbol.dispose]();
    // Whoever leaves lets go of what they pressed.
    await gets(keyboard, [[KEY, 57, 0], sync]);
  });

  it("passes on the pointer, its buttons and its wheel", async () => {
    using viewer = await WebViewer.connect(url);
    viewer.send({ output: 0, x: 0.5, y: 1 });
    await gets(tablet, [[ABS, Abs.X, 16384], [ABS, Abs.Y, 32767], sync]);
    const codes = [Button.LEFT, Button.MIDDLE, Button.RIGHT, Button.SIDE, Button.EXTRA];
    for (const [button, code] of codes.entries()) {
      viewer.send({ button, down: true });
      viewer.send({ button, down: false });
      await gets(tablet, [[KEY, code, 1], sync, [KEY, code, 0], sync]);
    }
    viewer.send({ up: -2, right: 0 });
    viewer.send({ up: 1, right: 3 });
    await gets(tablet, [
      [REL, Rel.WHEEL, -2],
      sync,
      [REL, Rel.WHEEL, 1],
      [REL, Rel.HWHEEL, 3],
      sync,
    ]);
    viewer.send({ button: 0, down: true });
    await gets(tablet, [[KEY, Button.LEFT, 1], sync]);
    viewer[Symbol.dispose]();
    await gets(tablet, [[KEY, Button.LEFT, 0], sync]);
  });

  it("shows the screen", async () => {
    using driver = GpuDriver.connect(folder.at("gpu.sock"));
    const surface = new Surface(driver, 1, 320, 200);
    surface.paint(picture(320, 200));
    surface.show();
    surface.setScanout();
    using viewer = await WebViewer.connect(url);
    await viewer.shows(picture(320, 200));
  });

  it("proposes sizes to the driver, if no display of the front-end has a say", async () => {
    using viewer = await WebViewer.connect(url);
    const hello = () => viewer.messages.findLast(({ name }) => name === "HELLO")?.numbers;
    {
      using driver = GpuDriver.connect(folder.at("gpu.sock"));
      const { frontend } = driver;
      await eventually(() => hello()?.[1] === 1, "leave to propose");
      const event = () => u32(frontend.getConfig(0, 4)!, 0);
      const told = () => frontend.requests.receive(0)?.row.name === "CONFIG_CHANGE_MSG";
      const clear = () => frontend.setConfig(4, Uint8Array.of(1, 0, 0, 0));
      const sizes = () => {
        const { bytes } = driver.displayInfo();
        return [0, 3].map((i) => [8, 12, 16].map((at) => u32(bytes, 24 + 24 * i + at)));
      };
      assert.equal(event(), 0);
      assert.deepEqual(sizes(), [
        [1280, 800, 1],
        [0, 0, 0],
      ]);
      viewer.send({ output: 0, width: 1000, height: 701 });
      await eventually(told, "the announcement");
      assert.equal(event(), 1);
      assert.deepEqual(sizes()[0], [1000, 701, 1]);
      clear();
      assert.equal(event(), 0);
      viewer.send({ output: 3, width: 640, height: 480 });
      await eventually(told, "the announcement of another output");
      assert.deepEqual(sizes()[1], [640, 480, 1]);
      // A proposal that comes between the question and the driver's "seen" is an event of its own.
      viewer.send({ output: 3, width: 800, height: 600 });
      await new Promise((resolve) => setTimeout(resolve, 50));
      clear();
      await eventually(told, "the announcement of the later one");
      assert.equal(event(), 1);
      assert.deepEqual(sizes()[1], [800, 600, 1]);
      clear();
    }
    using display = new GpuDisplay();
    using driver = GpuDriver.connect(folder.at("gpu.sock"), { display });
    await eventually(() => hello()?.[1] === 0, "no leave to propose");
    viewer.send({ output: 0, width: 333, height: 333 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(u32(driver.frontend.getConfig(0, 4)!, 0), 0);
    assert.notEqual(u32(driver.displayInfo().bytes, 32), 333);
  });

  it("is a keyboard and a tablet to their drivers", () => {
    const text = (driver: InputDriver) => new TextDecoder().decode(driver.describe(1));
    assert.equal(text(keyboard), "Ringside keyboard");
    assert.equal(text(tablet), "Ringside tablet");
    assert.ok(keyboard.describe(0x11, KEY).length > 0);
    assert.equal(tablet.describe(0x12, Abs.X).length, 20);
  });

  it("ends on a signal, and removes its sockets", () => {
    assert.ok(program.stop());
    assert.doesNotMatch(program.log, /failed|error/);
    using again = new Program([launcher("ringside"), "desktop", `--sockets=${folder.path}`], {
      folder,
      socket: folder.at("tablet.sock"),
    });
    assert.ok(again.stop());
  });

  it("says what is wrong with its arguments, and opens nothing then", async () => {
    for (const [args, code, reason] of [
      [["--web=x"], 1, /Cannot use the address "x"/],
      [["--size=1"], 1, /Cannot use the size "1"/],
      [["--socket-path=x"], 2, /Unknown option --socket-path/],
      [["x"], 2, /Unexpected argument "x"/],
      [[`--sockets=${folder.at("missing")}`], 1, /missing\/gpu\.sock/],
    ] as const) {
      const command = [launcher("ringside"), "desktop", `--sockets=${folder.path}`];
      const all = args[0]!.startsWith("--sockets") ? [...command.slice(0, 2)] : command;
      using failing = new Program([...all, ...args], { socket: null });
      assert.equal((await failing.exit).code, code, failing.log);
      assert.match(failing.log, reason);
    }
  });
});
