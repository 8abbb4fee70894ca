/** What a driver can do wrong with 3D. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  capset,
  createResource3d,
  GpuBit,
  GpuCommand,
  GpuContext,
  type GpuDriver,
  GpuResponse,
  type GpuShape,
  gpuCommand,
  inContext,
} from "../../frontend/mod.ts";
import { residentSize } from "../support/process-status.ts";
import { HUGE, suite } from "./row.ts";
import { checkDrawing, Drawing, noRenderer } from "./virgl.ts";
import { Bind, clear, Format, target } from "./virgl-stream.ts";

const { OK, UNSPEC, OUT_OF_MEMORY, INVALID_CONTEXT_ID, INVALID_RESOURCE_ID, INVALID_PARAMETER } =
  GpuResponse;

const image: GpuShape = {
  format: Format.B8G8R8A8,
  bind: Bind.RENDER_TARGET | Bind.SAMPLER_VIEW,
  width: 16,
  height: 16,
};

describe("bad commands of a 3D driver", { skip: noRenderer }, () => {
  const { row, connect, pid } = suite(["--virgl"]);

  /** A context, with nothing in it. */
  function contextOf(driver: GpuDriver, id = 1): GpuContext {
    const context = new GpuContext(driver, id);
    assert.equal(context.create(), OK);
    return context;
  }

  row("contexts and resources that are not there, or twice, are refused", (driver) => {
    const context = contextOf(driver);
    assert.equal(context.create(), INVALID_CONTEXT_ID, "twice");
    assert.equal(new GpuContext(driver, 0).create(), INVALID_CONTEXT_ID);
    for (const init of [3, 4, 5, 6, 0x101, HUGE]) {
      assert.equal(new GpuContext(driver, 2).create(init), INVALID_PARAMETER, `init ${init}`);
    }
    assert.equal(new GpuContext(driver, HUGE).create(1, "x".repeat(64)), OK);
    const absent = new GpuContext(driver, 2);
    assert.equal(absent.destroy(), INVALID_CONTEXT_ID);
    assert.equal(absent.submit([0]), INVALID_CONTEXT_ID);
    assert.equal(absent.attach(1), INVALID_CONTEXT_ID);
    assert.equal(context.attach(1), INVALID_RESOURCE_ID);
    assert.equal(context.detach(1), INVALID_RESOURCE_ID);
    assert.equal(context.transferTo(1, { width: 1 }), INVALID_RESOURCE_ID);
    assert.equal(createResource3d(driver, 0, image), INVALID_RESOURCE_ID);
    assert.equal(createResource3d(driver, 1, image), OK);
    assert.equal(createResource3d(driver, 1, image), INVALID_RESOURCE_ID);
    assert.equal(driver.create(1, 4, 4), INVALID_RESOURCE_ID);
    assert.equal(absent.transferTo(1, { width: 1 }), INVALID_CONTEXT_ID);
    for (let i = 0; i < 3; i++) assert.equal(context.attach(1), OK);
    for (let i = 0; i < 3; i++) assert.equal(context.detach(1), OK);
    assert.equal(context.destroy(), OK);
    assert.equal(context.destroy(), INVALID_CONTEXT_ID);
    assert.equal(capset(driver, HUGE, 0, 8).type, INVALID_PARAMETER);
  });

  row("resources of forms and sizes that there are not are refused", (driver) => {
    const wrong: Partial<GpuShape>[] = [
      { target: 9 },
      { target: HUGE },
      { format: 0 },
      { format: HUGE },
      { format: 500 },
      { bind: 1 << 30 },
      { width: 0 },
      { height: 0 },
      { depth: 0 },
      { arraySize: 0 },
      { width: 16385 },
      { height: HUGE },
      { depth: 2 },
      { arraySize: 2 },
      { arraySize: HUGE },
      { lastLevel: 5 },
      { lastLevel: HUGE },
      { samples: 33 },
      { samples: HUGE },
      { flags: 0x80 },
      { flags: HUGE },
      { target: 0, width: HUGE, height: 1 },
      { target: 0, width: 64, height: 2 },
      { target: 1, height: 2 },
      { target: 3, depth: HUGE },
      { target: 4, arraySize: 5 },
      { target: 4, arraySize: 6, height: 8 },
      { target: 8, arraySize: 7 },
      { target: 5, lastLevel: 1 },
    ];
    for (const change of wrong) {
      const type = createResource3d(driver, 1, { ...image, ...change });
      assert.equal(type, INVALID_PARAMETER, JSON.stringify(change));
    }
    const large = { ...image, width: 8192, height: 8192 };
    assert.equal(createResource3d(driver, 1, large), OUT_OF_MEMORY);
    assert.equal(createResource3d(driver, 1, { ...image, lastLevel: 4 }), OK);
  });

  row("no more resources and contexts than the guest's share are made", (driver) => {
    const before = residentSize(pid());
    let count = 0;
    while (createResource3d(driver, count + 1, { ...image, width: 1024, height: 1024 }) === OK) {
      count++;
    }
    assert.equal(count, 15, "images of 4 MiB and what they cost besides, in 64 MiB");
    for (let id = 1; id <= count; id++) assert.equal(driver.unref(id), OK);
    let small = 0;
    while (createResource3d(driver, small + 1, { ...image, width: 1, height: 1 }) === OK) small++;
    assert.ok(small > 1000 && small < 10_000, `${small} resources of a pixel`);
    assert.ok(residentSize(pid()) - before < 192 * 1024, "in KiB");
    for (let id = 1; id <= small; id++) assert.equal(driver.unref(id), OK);
    let contexts = 0;
    while (new GpuContext(driver, contexts + 1).create() === OK) contexts++;
    assert.ok(contexts > 8 && contexts <= 64, `${contexts} contexts`);
    for (let id = 1; id <= contexts; id++) assert.equal(new GpuContext(driver, id).destroy(), OK);
  });

  row("guest memory that is none, too much or not there is no resource's", (driver) => {
    const address = driver.frontend.memory.allocate(4096, 4096);
    const page = { address, length: 4096 };
    const context = contextOf(driver);
    assert.equal(createResource3d(driver, 1, image), OK);
    assert.equal(context.attach(1), OK);
    assert.equal(context.transferTo(1, { width: 16, height: 16 }), UNSPEC, "no memory");
    assert.equal(driver.attach(1, []), INVALID_PARAMETER);
    assert.equal(driver.attach(1, [page], 2), INVALID_PARAMETER);
    assert.equal(driver.attach(1, [{ address: 2 ** 50, length: 4096 }]), UNSPEC);
    assert.equal(driver.attach(1, [page, { address: 2 ** 50, length: 16 }]), UNSPEC);
    assert.equal(driver.attach(1, [{ address, length: 0 }]), UNSPEC, "nothing at all");
    const much = Array.from({ length: 16384 }, () => ({ address: 0, length: 2 ** 18 }));
    assert.equal(driver.attach(1, much), UNSPEC, "4 GiB");
    assert.equal(driver.attach(1, [page]), OK);
    assert.equal(driver.attach(1, [page]), UNSPEC, "twice");
    assert.equal(driver.detach(1), OK);
    assert.equal(driver.detach(1), UNSPEC);
    const scattered = Array.from({ length: 4096 }, (_, i) => ({
      address: address + ((i * 2) % 4096),
      length: 1,
    }));
    assert.equal(driver.attach(1, scattered), OK);
    assert.equal(context.transferTo(1, { width: 16, height: 16 }), OK);
  });

  row("memory that has gone away is no resource's any more, whatever uses it", (driver) => {
    const { frontend } = driver;
    const region = frontend.addRegion(2 ** 20);
    const address = region.plan.guestAddress;
    const context = contextOf(driver);
    const all = { width: 16, height: 16 };
    for (const id of [1, 2]) {
      assert.equal(createResource3d(driver, id, image), OK);
      assert.equal(driver.attach(id, [{ address, length: 1024 }]), OK);
      assert.equal(context.attach(id), OK);
      assert.equal(context.transferTo(id, all), OK);
    }
    const rect = { x: 0, y: 0, ...all };
    assert.equal(driver.setScanout(0, 1, rect), OK);
    // TRANSFER3D of the whole resource, from the host: the same by a command of a stream.
    const stream = [43 | (13 << 16), 2, 0, 0, 0, 0, 0, 0, 0, 16, 16, 1, 0, 2];
    assert.equal(context.submit(stream), OK);
    frontend.removeRegion(region);
    assert.equal(context.transferFrom(1, all), UNSPEC);
    assert.equal(context.transferTo(1, all), UNSPEC);
    assert.equal(context.submit(stream), INVALID_PARAMETER);
    assert.equal(driver.flush(1, rect), OK);
    assert.equal(driver.detach(1), OK);
    assert.equal(driver.unref(2), OK);
  });

  row("transfers that do not fit are refused", (driver) => {
    const address = driver.frontend.memory.allocate(4096, 4096);
    const context = contextOf(driver);
    assert.equal(createResource3d(driver, 1, { ...image, lastLevel: 2 }), OK);
    assert.equal(driver.attach(1, [{ address, length: 1024 }]), OK);
    assert.equal(context.attach(1), OK);
    const all = { width: 16, height: 16 };
    const wrong = [
      [{ width: 0, height: 1 }, {}],
      [{ width: 17, height: 1 }, {}],
      [{ x: 16, width: 1, height: 1 }, {}],
      [{ x: HUGE, width: 2, height: 1 }, {}],
      [{ y: 1, width: 1, height: 16 }, {}],
      [{ z: 1, ...all }, {}],
      [{ ...all, depth: 2 }, {}],
      [{ ...all, depth: HUGE }, {}],
      [all, { level: 1 }],
      [all, { level: 3 }],
      [all, { level: HUGE }],
      [all, { offset: 1 }],
      [all, { offset: 1024 }],
      [all, { offset: 2 ** 40 }],
      [all, { offset: 2 ** 32 }],
      [all, { stride: 1 }],
      [all, { stride: HUGE }],
      [{ width: 16, height: 2 }, { stride: 0x80000000 }],
      [all, { layerStride: 1 }],
    ] as const;
    for (const [box, layout] of wrong) {
      const what = JSON.stringify([box, layout]);
      assert.notEqual(context.transferTo(1, box, layout), OK, what);
      assert.notEqual(context.transferFrom(1, box, layout), OK, what);
    }
    assert.equal(context.transferTo(1, { width: 4, height: 4 }, { level: 2 }), OK);
    assert.equal(context.transferTo(1, all), OK);
    assert.equal(context.transferFrom(1, all), OK);
  });

  row("what cannot be shown is not", (driver) => {
    const rect = { x: 0, y: 0, width: 16, height: 16 };
    const buffer = { target: 0, format: Format.R8, bind: Bind.VERTEX_BUFFER, width: 64 };
    assert.equal(createResource3d(driver, 1, buffer), OK);
    assert.equal(createResource3d(driver, 2, { ...image, format: Format.R8 }), OK);
    assert.equal(createResource3d(driver, 3, image), OK);
    assert.equal(driver.setScanout(0, 1, { ...rect, height: 1 }), INVALID_PARAMETER);
    assert.equal(driver.setScanout(0, 2, rect), INVALID_PARAMETER);
    assert.equal(driver.setScanout(0, 3, { ...rect, width: 17 }), INVALID_PARAMETER);
    assert.equal(driver.setScanoutBlob(0, 3, rect), INVALID_PARAMETER);
    assert.equal(driver.transfer(3, rect, 0), INVALID_PARAMETER, "a 2D transfer");
    for (let i = 0; i < 20; i++) assert.equal(driver.setScanout(i % 2, 3, rect), OK);
    assert.equal(driver.flush(3, { ...rect, y: 1 }), INVALID_PARAMETER);
    assert.equal(driver.flush(3, { ...rect, width: 0 }), OK);
    assert.equal(driver.flush(1, { ...rect, height: 1 }), OK);
  });

  row("commands that make no sense end at most their context", (driver) => {
    const drawing = new Drawing(driver, 1);
    const other = contextOf(driver, 5);
    assert.equal(other.submit([]), INVALID_PARAMETER);
    assert.equal(driver.command(other.submission([0], null, 8)).type, INVALID_PARAMETER, "beyond");
    assert.equal(driver.command(other.submission([0, 0], null, 6)).type, INVALID_PARAMETER);
    assert.equal(driver.command(other.submission([0], null, HUGE)).type, INVALID_PARAMETER);
    let seed = 1;
    const random = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed;
    };
    for (let i = 0; i < 50; i++) {
      const words = Array.from({ length: 1 + (random() >>> 24) }, random);
      // Commands that there are, with whatever follows.
      for (let at = 0; i % 2 === 0 && at < words.length; at += 4) {
        words[at] = ((random() >>> 16) % 50) | ((random() >>> 29) << 8) | (3 << 16);
      }
      const type = other.submit(words);
      assert.ok(type === OK || type === INVALID_PARAMETER, `${type}`);
    }
    assert.equal(other.submit(target(1, 999, Format.B8G8R8A8)), INVALID_PARAMETER);
    assert.equal(drawing.context.submit(drawing.stream()), OK);
    checkDrawing(drawing.canvas.pixels(), drawing.canvas);
  });

  row("what is drawn to, shown or waited for may go away", (driver) => {
    const drawing = new Drawing(driver, 1);
    const { context, canvas } = drawing;
    assert.equal(context.submit(drawing.stream()), OK);
    assert.equal(driver.setScanout(0, canvas.id, canvas.rect), OK);
    assert.equal(driver.unref(canvas.id), OK);
    const type = context.submit(clear(1, 1, 1));
    assert.ok(type === OK || type === INVALID_PARAMETER, `${type}`);
    assert.equal(context.transferFrom(canvas.id, canvas.rect), INVALID_RESOURCE_ID);
    const commands = [clear(1, 0, 0), clear(0, 1, 0)].map((words, i) =>
      context.submission(words, i),
    );
    const gone = inContext(gpuCommand(GpuCommand.CTX_DESTROY), context.id, 7);
    const answers = driver.control.exchangeAll([...commands, gone], 24);
    assert.deepEqual(
      answers.map(({ request }) => request),
      [0, 1, 2],
    );
  });

  it("commands that are too short are refused", () => {
    using driver = connect();
    for (const [type, size] of [
      [GpuCommand.GET_CAPSET_INFO, 32],
      [GpuCommand.GET_CAPSET, 32],
      [GpuCommand.CTX_CREATE, 96],
      [GpuCommand.CTX_ATTACH_RESOURCE, 32],
      [GpuCommand.CTX_DETACH_RESOURCE, 32],
      [GpuCommand.RESOURCE_CREATE_3D, 72],
      [GpuCommand.TRANSFER_TO_HOST_3D, 72],
      [GpuCommand.TRANSFER_FROM_HOST_3D, 72],
      [GpuCommand.SUBMIT_3D, 32],
    ] as const) {
      const command = gpuCommand(type, ...new Array(20).fill(0)).subarray(0, size - 1);
      assert.equal(driver.command(command).type, INVALID_PARAMETER, `command ${type}`);
    }
  });

  it("a driver that did not accept 3D has none", () => {
    const features = (1n << 32n) | (1n << BigInt(GpuBit.EDID));
    using driver = connect({ features });
    assert.equal(createResource3d(driver, 1, image), UNSPEC);
    assert.equal(new GpuContext(driver, 1).create(), UNSPEC);
    assert.equal(capset(driver, 1, 1, 308).type, INVALID_PARAMETER);
  });
});
