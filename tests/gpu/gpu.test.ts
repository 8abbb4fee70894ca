/** The graphics device as a program, with a driver and a display on the other side. */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import {
  GpuCommand,
  GpuDisplay,
  type GpuDisplayOptions,
  GpuDriver,
  GpuFormat,
  type GpuOptions,
  GpuResponse,
  gpuCommand,
} from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";
import { eachCard } from "./card.ts";
import { PIXEL, picture, Surface, shows } from "./screen.ts";

const { OK } = GpuResponse;

const u32 = (bytes: Uint8Array, at: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

eachCard("the graphics device", (card) => {
  let program: Program;
  before(() => {
    const args = ["--socket-path=SOCKET", "--blob", ...card];
    program = new Program([launcher("vhost-user-gpu"), ...args]);
  });
  after(() => program?.[Symbol.dispose]());

  const connect = (options?: GpuOptions) => GpuDriver.connect(program.socket, options);
  function withDisplay(settings?: GpuDisplayOptions, options?: GpuOptions) {
    const display = new GpuDisplay(settings);
    return { display, driver: connect({ ...options, display }) };
  }

  it("shows what the driver draws, on split and on packed rings", () => {
    for (const packed of [false, true]) {
      const { driver, display } = withDisplay({}, { packed });
      using _ = driver;
      using __ = display;
      const surface = new Surface(driver, 1, 640, 480);
      const drawing = picture(640, 480);
      surface.paint(drawing);
      surface.setScanout();
      surface.show();
      shows(display, drawing);
      const names = display.messages.map(({ name }) => name);
      assert.ok(names.indexOf("SCANOUT") < names.indexOf("UPDATE"), names.join());
    }
  });

  it("shows guest memory that is in many pieces, and rectangles of it", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    for (const [id, cut] of [
      [1, 4096],
      [2, 100],
      [3, 3],
    ] as const) {
      const size = id === 3 ? 16 : 100;
      const surface = new Surface(driver, id, size, size - 7, GpuFormat.B8G8R8X8, cut);
      const first = picture(size, size - 7, id);
      surface.paint(first);
      surface.setScanout();
      surface.show();
      shows(display, first);
      const second = picture(size, size - 7, id + 10);
      surface.paint(second);
      const part = { x: 3, y: 2, width: size - 5, height: 4 };
      surface.show(part);
      const mixed = first.slice();
      for (let row = part.y; row < part.y + part.height; row++) {
        const at = (row * size + part.x) * PIXEL;
        mixed.set(second.subarray(at, at + part.width * PIXEL), at);
      }
      shows(display, mixed);
    }
  });

  it("sends only what was flushed", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const surface = new Surface(driver, 1, 200, 100);
    surface.paint(picture(200, 100));
    surface.setScanout();
    surface.show();
    shows(display, picture(200, 100));
    display.messages.length = 0;
    surface.paint(picture(200, 100, 1));
    surface.show({ x: 10, y: 20, width: 30, height: 5 });
    surface.show({ x: 190, y: 90, width: 10, height: 10 });
    display.serveUntil(() => display.messages.length === 2, "pair of updates");
    assert.deepEqual(display.messages, [
      { name: "UPDATE", numbers: [0, 10, 20, 30, 5] },
      { name: "UPDATE", numbers: [0, 190, 90, 10, 10] },
    ]);
  });

  it("shows part of a resource, and the same one on two outputs", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const surface = new Surface(driver, 1, 100, 60);
    const drawing = picture(100, 60);
    surface.paint(drawing);
    surface.setScanout(0, { x: 10, y: 20, width: 50, height: 30 });
    surface.setScanout(3);
    surface.show();
    shows(display, drawing, 3);
    const part = new Uint8Array(50 * 30 * PIXEL);
    for (let row = 0; row < 30; row++) {
      const at = ((20 + row) * 100 + 10) * PIXEL;
      part.set(drawing.subarray(at, at + 50 * PIXEL), row * 50 * PIXEL);
    }
    shows(display, part);
    // A flush beyond what is shown sends what is shown of it, in the output's own pixels.
    display.messages.length = 0;
    assert.equal(driver.flush(1, { x: 0, y: 45, width: 20, height: 15 }), OK);
    display.serveUntil(() => display.count("UPDATE") === 2, "updates of both outputs");
    assert.deepEqual(display.messages.map(({ numbers }) => numbers).sort(), [
      [0, 0, 25, 10, 5],
      [3, 0, 45, 20, 15],
    ]);
  });

  it("shows another resource at once, and nothing when the scanout is disabled", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const [a, b] = [new Surface(driver, 1, 64, 32), new Surface(driver, 2, 64, 32)];
    a.paint(picture(64, 32, 1));
    b.paint(picture(64, 32, 2));
    a.setScanout();
    a.show();
    assert.equal(driver.transfer(2, b.rect, 0), OK);
    shows(display, picture(64, 32, 1));
    b.setScanout();
    shows(display, picture(64, 32, 2));
    assert.equal(display.count("SCANOUT"), 1, "the size stayed");
    assert.equal(driver.setScanout(0, 0, { x: 0, y: 0, width: 0, height: 0 }), OK);
    display.serveUntil(() => display.screens[0] === null, "end of the picture");
    a.setScanout();
    shows(display, picture(64, 32, 1));
    assert.equal(driver.unref(1), OK);
    display.serveUntil(() => display.screens[0] === null, "end of the picture");
  });

  it("knows all formats", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    // What 0x11 blue, 0x22 green, 0x33 red looks like in each; X or A is 0.
    const bytes: Record<string, number[]> = {
      B8G8R8A8: [0x11, 0x22, 0x33, 0],
      B8G8R8X8: [0x11, 0x22, 0x33, 0],
      A8R8G8B8: [0, 0x33, 0x22, 0x11],
      X8R8G8B8: [0, 0x33, 0x22, 0x11],
      R8G8B8A8: [0x33, 0x22, 0x11, 0],
      R8G8B8X8: [0x33, 0x22, 0x11, 0],
      X8B8G8R8: [0, 0x11, 0x22, 0x33],
      A8B8G8R8: [0, 0x11, 0x22, 0x33],
    };
    const shown = new Uint8Array(8 * 8 * PIXEL);
    for (let i = 0; i < shown.length; i += PIXEL) shown.set([0x11, 0x22, 0x33, 0], i);
    Object.entries(GpuFormat).forEach(([name, format], i) => {
      const surface = new Surface(driver, i + 1, 8, 8, format);
      const drawn = new Uint8Array(8 * 8 * PIXEL);
      for (let at = 0; at < drawn.length; at += PIXEL) drawn.set(bytes[name]!, at);
      surface.paint(drawn);
      surface.setScanout();
      surface.show({ x: 0, y: 0, width: 8, height: 3 });
      surface.show({ x: 0, y: 3, width: 5, height: 5 });
      surface.show({ x: 5, y: 3, width: 3, height: 5 });
      shows(display, shown);
    });
  });

  it("shows cursors, moves them and hides them", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const surface = new Surface(driver, 1, 64, 64, GpuFormat.B8G8R8A8);
    const arrow = picture(64, 64, 5);
    surface.paint(arrow);
    surface.show();
    driver.updateCursor(1, 1, 100, 200, 3, 4);
    display.serveUntil(() => display.cursors[1] != null, "cursor");
    const { picture: shown, ...rest } = display.cursors[1]!;
    assert.deepEqual(rest, { x: 100, y: 200, visible: true, hotX: 3, hotY: 4 });
    assert.deepEqual(shown, arrow, "alpha included");
    driver.moveCursor(1, 1, 5, 6);
    display.serveUntil(() => display.cursors[1]!.x === 5, "move");
    assert.equal(display.count("CURSOR_UPDATE"), 1, "a move sends no picture");
    driver.updateCursor(1, 0, 0, 0);
    display.serveUntil(() => !display.cursors[1]!.visible, "end of the cursor");
  });

  it("tells the outputs that the display tells", () => {
    const outputs = [{ width: 1111, height: 777 }, null, { width: 320, height: 200 }];
    const edids = [0, 1, 2].map((i) => new Uint8Array(256).fill(i + 1));
    const { driver, display } = withDisplay({ outputs, edids });
    using _ = driver;
    using __ = display;
    const modes = () => {
      const { type, bytes } = driver.displayInfo();
      assert.deepEqual([type, bytes.length], [GpuResponse.DISPLAY_INFO, 408]);
      return [0, 1, 2].map((i) => [
        u32(bytes, 32 + 24 * i),
        u32(bytes, 36 + 24 * i),
        u32(bytes, 40 + 24 * i),
      ]);
    };
    assert.deepEqual(modes(), [
      [1111, 777, 1],
      [0, 0, 0],
      [320, 200, 1],
    ]);
    const { type, bytes } = driver.edid(2);
    assert.deepEqual([type, u32(bytes, 24)], [GpuResponse.EDID, 256]);
    assert.deepEqual(bytes.subarray(32, 32 + 256), edids[2]);
    assert.equal(display.accepted, 1n);
    // The display is resized: the driver asks again.
    display.options = { edids, outputs: [{ width: 500, height: 400 }] };
    assert.deepEqual(modes(), [
      [500, 400, 1],
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  it("makes an EDID for a display that has none", () => {
    const { driver, display } = withDisplay({ outputs: [{ width: 1366, height: 768 }] });
    using _ = driver;
    using __ = display;
    driver.displayInfo();
    const { type, bytes } = driver.edid(0);
    assert.deepEqual([type, u32(bytes, 24)], [GpuResponse.EDID, 128]);
    const timing = bytes.subarray(32 + 54);
    assert.equal(timing[2]! | ((timing[4]! & 0xf0) << 4), 1366);
    assert.equal(timing[5]! | ((timing[7]! & 0xf0) << 4), 768);
  });

  it("has outputs of its own without a display", () => {
    using driver = connect();
    const { type, bytes } = driver.displayInfo();
    assert.equal(type, GpuResponse.DISPLAY_INFO);
    assert.deepEqual([u32(bytes, 32), u32(bytes, 36), u32(bytes, 40)], [1280, 800, 1]);
    assert.equal(u32(bytes, 40 + 24), 0);
    const surface = new Surface(driver, 1, 64, 32);
    surface.setScanout();
    surface.show();
  });

  it("gives resources UUIDs that stay", () => {
    using driver = connect();
    assert.equal(driver.create(1, 4, 4), OK);
    assert.equal(driver.create(2, 4, 4), OK);
    const uuid = (id: number) => {
      const { type, bytes } = driver.assignUuid(id);
      assert.equal(type, GpuResponse.RESOURCE_UUID);
      return Buffer.from(bytes.subarray(24, 40)).toString("hex");
    };
    assert.match(uuid(1), /^.{12}4.{3}[89ab].{15}$/);
    assert.equal(uuid(1), uuid(1));
    assert.notEqual(uuid(1), uuid(2));
    assert.equal(driver.assignUuid(3).type, GpuResponse.INVALID_RESOURCE_ID);
  });

  it("answers a fence with what came with it", () => {
    using driver = connect();
    const command = gpuCommand(GpuCommand.RESOURCE_CREATE_2D, 1, 2, 4, 4);
    const view = new DataView(command.buffer);
    view.setUint32(4, 3, true);
    view.setBigUint64(8, 0xfedcba9876543210n, true);
    view.setUint32(16, 77, true);
    command.set([9, 1, 2, 3], 20);
    const { type, bytes } = driver.command(command);
    const answer = new DataView(bytes.buffer, bytes.byteOffset);
    assert.deepEqual([type, answer.getUint32(4, true)], [OK, 3]);
    assert.equal(answer.getBigUint64(8, true), 0xfedcba9876543210n);
    assert.deepEqual([answer.getUint32(16, true), answer.getUint32(20, true)], [77, 9]);
  });

  it("shows blobs as they are in guest memory", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const stride = 512;
    const height = 50;
    const address = driver.frontend.memory.allocate(stride * height, 4096);
    const pieces = [0, 1, 2, 3, 4].map((i) => ({ address: address + i * 5120, length: 5120 }));
    assert.equal(driver.createBlob(1, stride * height, pieces), OK);
    const rect = { x: 0, y: 0, width: 100, height };
    const drawing = picture(100, height);
    const draw = (bytes: Uint8Array) => {
      for (let row = 0; row < height; row++) {
        driver.frontend.memory.write(
          address + row * stride,
          bytes.subarray(row * 400, row * 400 + 400),
        );
      }
    };
    draw(drawing);
    assert.equal(driver.setScanoutBlob(0, 1, rect, stride), OK);
    shows(display, drawing);
    draw(picture(100, height, 3));
    assert.equal(driver.flush(1, rect), OK);
    shows(display, picture(100, height, 3));
    assert.equal(driver.unref(1), OK);
    display.serveUntil(() => display.screens[0] === null, "end of the picture");
  });

  it("keeps the picture while the guest is paused, and shows it on a new socket", () => {
    const { driver, display } = withDisplay();
    using _ = driver;
    using __ = display;
    const surface = new Surface(driver, 1, 320, 200);
    const drawing = picture(320, 200);
    surface.paint(drawing);
    surface.setScanout(1);
    surface.show();
    const arrow = new Surface(driver, 2, 64, 64);
    arrow.show();
    driver.updateCursor(1, 2, 7, 8);
    shows(display, drawing, 1);
    const bases = driver.frontend.stop();
    driver.connectDisplay();
    driver.frontend.start(bases);
    shows(display, drawing, 1);
    display.serveUntil(() => display.cursors[1]?.x === 7, "cursor");
    assert.equal(driver.create(1, 4, 4), GpuResponse.INVALID_RESOURCE_ID, "it is still there");
  });

  it("has nothing left of a driver that was replaced by another one", () => {
    for (const packed of [false, true]) {
      const { driver, display } = withDisplay({}, { packed });
      using _ = driver;
      using __ = display;
      const surface = new Surface(driver, 1, 64, 32);
      surface.setScanout();
      surface.show();
      display.serveUntil(() => display.screens[0] != null, "picture");
      driver.frontend.stop();
      for (const vring of driver.frontend.vrings.splice(0)) vring[Symbol.dispose]();
      const next = new GpuDriver(driver.frontend, { display });
      display.serveUntil(() => display.accepted !== null, "agreement");
      assert.equal(next.unref(1), GpuResponse.INVALID_RESOURCE_ID);
      assert.equal(next.create(1, 4, 4), OK);
      assert.equal(display.screens[0], null);
    }
  });

  it("has nothing left after RESET_DEVICE or another front-end", () => {
    {
      using driver = connect();
      assert.equal(driver.create(1, 4, 4), OK);
      driver.frontend.resetDevice();
    }
    using driver = connect();
    assert.equal(driver.create(1, 4, 4), OK);
  });

  it("has the config space of a card with its capsets", () => {
    using driver = connect();
    const config = driver.frontend.getConfig(0, 16)!;
    assert.deepEqual(
      [0, 4, 8, 12].map((at) => u32(config, at)),
      [0, 0, 16, card.includes("--virgl") ? 2 : 0],
    );
    driver.frontend.setConfig(0, new Uint8Array(16).fill(1));
    assert.deepEqual(driver.frontend.getConfig(0, 16), config);
  });
});
