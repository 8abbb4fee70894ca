/** 3D without a guest: a driver of ours draws with the renderer, and compares pixels. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  capset,
  capsetInfo,
  createResource3d,
  GpuCommand,
  GpuContext,
  GpuDisplay,
  GpuDriver,
  GpuFormat,
  type GpuOptions,
  GpuResponse,
  gpuCommand,
  inContext,
} from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";
import { PIXEL, picture, Surface, shows } from "./screen.ts";
import { checkDrawing, Drawing, noRenderer, Y_0_TOP } from "./virgl.ts";
import { Bind, clear, Format, target } from "./virgl-stream.ts";

const { OK } = GpuResponse;

const u32 = (bytes: Uint8Array, at: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

describe("a graphics device with --virgl", { skip: noRenderer }, () => {
  let program: Program;
  before(() => {
    program = new Program([launcher("vhost-user-gpu"), "--socket-path=SOCKET", "--virgl"]);
  });
  after(() => program?.[Symbol.dispose]());

  const connect = (options?: GpuOptions) =>
    GpuDriver.connect(program.socket, { maxBytes: 400_000, ...options });

  it("offers the capsets of virgl", () => {
    using driver = connect();
    assert.equal(u32(driver.frontend.getConfig(0, 16)!, 12), 2);
    const capsets = [0, 1].map((index) => {
      const { type, bytes } = capsetInfo(driver, index);
      assert.equal(type, GpuResponse.CAPSET_INFO);
      return [u32(bytes, 24), u32(bytes, 28), u32(bytes, 32)];
    });
    assert.deepEqual(capsets, [
      [1, 1, 308],
      [2, 2, 1376],
    ]);
    for (const [id, version, size] of capsets as [number, number, number][]) {
      const { type, bytes } = capset(driver, id, version, size);
      assert.deepEqual([type, bytes.length], [GpuResponse.CAPSET, 24 + size]);
      assert.equal(u32(bytes, 24), version, "it begins with its version");
    }
    assert.equal(capsetInfo(driver, 2).type, GpuResponse.INVALID_PARAMETER);
    assert.equal(capset(driver, 3, 1, 8).type, GpuResponse.INVALID_PARAMETER);
    assert.equal(capset(driver, 2, 3, 1376).type, GpuResponse.INVALID_PARAMETER);
  });

  it("draws, on split and on packed rings, whichever way up the texture is", () => {
    for (const [packed, flags] of [
      [false, 0],
      [true, Y_0_TOP],
    ] as const) {
      using driver = connect({ packed });
      const drawing = new Drawing(driver, 1, { flags });
      assert.equal(drawing.context.submit(drawing.stream()), OK);
      checkDrawing(drawing.canvas.pixels(), drawing.canvas, flags);
    }
  });

  it("shows what was drawn, in formats of either order", () => {
    for (const [format, flags] of [
      [GpuFormat.B8G8R8X8, 0],
      [GpuFormat.B8G8R8A8, Y_0_TOP],
      [GpuFormat.R8G8B8A8, 0],
    ] as const) {
      using display = new GpuDisplay();
      using driver = connect({ display });
      const drawing = new Drawing(driver, 1, { width: 320, height: 200, format, flags });
      const { canvas, context } = drawing;
      assert.equal(context.submit(drawing.stream()), OK);
      assert.equal(driver.setScanout(0, canvas.id, canvas.rect), OK);
      const all = canvas.rect;
      display.serveUntil(() => display.count("UPDATE") > 0, "picture");
      checkDrawing(display.screens[0]!.pixels, canvas, flags);
      // A flush brings what was drawn since, and no more than was flushed.
      assert.equal(context.submit([...target(200, canvas.id, format), ...clear(0, 1, 0)]), OK);
      const part = { x: 10, y: 190, width: 20, height: 10 };
      assert.equal(driver.flush(canvas.id, part), OK);
      const at = (x: number, y: number) => {
        const start = (y * 320 + x) * PIXEL;
        return [...display.screens[0]!.pixels.subarray(start, start + 3)].join();
      };
      display.serveUntil(() => at(10, 190) === "0,255,0", "part of the new picture");
      assert.equal(at(29, 199), "0,255,0");
      assert.notEqual(at(30, 199), "0,255,0");
      assert.equal(driver.flush(canvas.id, all), OK);
      display.serveUntil(() => at(0, 0) === "0,255,0" && at(319, 199) === "0,255,0", "all of it");
    }
  });

  it("completes fences in the order of their commands", () => {
    using driver = connect();
    const drawing = new Drawing(driver, 1, { width: 1024, height: 1024 });
    const { context, canvas } = drawing;
    assert.equal(context.submit(drawing.stream()), OK);
    const plain = gpuCommand(GpuCommand.CTX_ATTACH_RESOURCE, canvas.id, 0);
    const commands = Array.from({ length: 12 }, (_, i) =>
      i % 3 === 2
        ? inContext(plain.slice(), context.id, 100 + i)
        : context.submission(
            [...target(300 + i, canvas.id, Format.B8G8R8X8), ...clear(0, 1, 0)],
            100 + i,
          ),
    );
    const answers = driver.control.exchangeAll(commands, 24);
    assert.deepEqual(
      answers.map(({ request }) => request),
      commands.map((_, i) => i),
    );
    for (const { request, bytes } of answers) {
      assert.deepEqual([u32(bytes, 0), u32(bytes, 4), u32(bytes, 8)], [OK, 1, 100 + request]);
    }
  });

  it("shows 2D resources, also those that are in a context", () => {
    using display = new GpuDisplay();
    using driver = connect({ display });
    const surface = new Surface(driver, 7, 64, 32);
    const context = new GpuContext(driver, 1);
    surface.paint(picture(64, 32));
    surface.setScanout();
    surface.show();
    shows(display, picture(64, 32));
    assert.equal(context.create(2), OK);
    assert.equal(context.attach(7), OK);
    const { memory } = driver.frontend;
    const read = () => {
      memory.bytes(surface.address, 64 * 32 * PIXEL).fill(0);
      assert.equal(context.transferFrom(7, surface.rect), OK);
      return memory.read(surface.address, 64 * 32 * PIXEL);
    };
    assert.deepEqual(read(), picture(64, 32), "the renderer has what was there before");
    surface.paint(picture(64, 32, 1));
    surface.show();
    shows(display, picture(64, 32, 1));
    assert.deepEqual(read(), picture(64, 32, 1), "and what came later");
    surface.paint(picture(64, 32, 2));
    assert.equal(context.transferTo(7, surface.rect), OK);
    assert.equal(driver.flush(7, surface.rect), OK);
    shows(display, picture(64, 32, 2));
    assert.equal(driver.unref(7), OK);
  });

  it("keeps pictures while the guest is paused, and uses its memory where it is then", () => {
    using display = new GpuDisplay();
    using driver = connect({ display });
    const drawing = new Drawing(driver);
    const { context, canvas } = drawing;
    assert.equal(context.submit(drawing.stream()), OK);
    driver.frontend.start(driver.frontend.stop());
    checkDrawing(canvas.pixels(), canvas);
    driver.frontend.replaceMemory();
    checkDrawing(canvas.pixels(), canvas);
  });

  it("has nothing left of a driver that was replaced or reset", () => {
    {
      using driver = connect();
      new Drawing(driver);
      driver.frontend.resetDevice();
    }
    {
      using driver = connect();
      new Drawing(driver);
    }
    using driver = connect();
    const drawing = new Drawing(driver);
    assert.equal(drawing.context.submit(drawing.stream()), OK);
    checkDrawing(drawing.canvas.pixels(), drawing.canvas);
  });

  it("lends the renderer no memory from behind an IOMMU, where 2D works", () => {
    const options = ["--socket-path=SOCKET", "--virgl", "--iommu"];
    using other = new Program([launcher("vhost-user-gpu"), ...options]);
    using driver = GpuDriver.connect(other.socket, { iommu: {} });
    const surface = new Surface(driver, 1, 64, 32);
    surface.paint(picture(64, 32));
    surface.setScanout();
    surface.show();
    const context = new GpuContext(driver, 1);
    assert.equal(context.create(), OK);
    const bind = Bind.RENDER_TARGET;
    const shape = { format: Format.B8G8R8A8, bind, width: 16, height: 16 };
    assert.equal(createResource3d(driver, 2, shape), OK);
    const address = driver.frontend.memory.allocate(1024, 4096);
    const piece = { address, length: 1024 };
    assert.equal(driver.attach(2, [piece]), GpuResponse.UNSPEC);
    assert.equal(context.attach(1), OK);
    assert.equal(context.transferFrom(1, surface.rect), GpuResponse.UNSPEC);
    surface.show();
  });

  it("ends when it is told to, whatever it has to draw", async () => {
    using other = new Program([launcher("vhost-user-gpu"), "--socket-path=SOCKET", "--virgl"]);
    using driver = GpuDriver.connect(other.socket);
    const drawing = new Drawing(driver, 1, { width: 1024, height: 1024 });
    assert.equal(drawing.context.submit(drawing.stream()), OK);
    const { memory } = driver.frontend;
    const { vring } = driver.control;
    for (let i = 0; i < 16; i++) {
      const command = drawing.context.submission(clear(0, i / 16, 0), 1 + i);
      const [from, to] = [memory.allocate(command.length), memory.allocate(24)];
      memory.write(from, command);
      vring.ring.clear();
      vring.ring.push(from, command.length, false);
      vring.ring.push(to, 24, true);
      vring.ring.add(i);
    }
    vring.publish();
    assert.ok(other.stop(), "it had to be killed");
    assert.deepEqual(await other.exit, { code: 0, signal: null });
  });

  it("is without privileges to gain", async () => {
    const { readFileSync } = await import("node:fs");
    assert.match(readFileSync(`/proc/${program.pid}/status`, "utf8"), /^NoNewPrivs:\t1$/m);
  });
});
