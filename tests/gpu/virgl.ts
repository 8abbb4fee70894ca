/** What tests of 3D share: a program with a renderer, and a driver that draws with it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import {
  createResource3d,
  GpuContext,
  type GpuDriver,
  GpuResponse,
  type GpuShape,
} from "../../frontend/mod.ts";
import { skipWithoutFile } from "../support/requirements.ts";
import { PIXEL } from "./screen.ts";
import {
  Bind,
  clear,
  draw,
  Format,
  pipeline,
  target,
  VERTEX_SIZE,
  vertex,
} from "./virgl-stream.ts";

const { OK } = GpuResponse;

const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
const folders = [`/usr/lib/${machine}-linux-gnu`, "/usr/lib64", "/usr/lib"];
const library = folders
  .map((folder) => `${folder}/libvirglrenderer.so.1`)
  .find((path) => existsSync(path));

/** The value of a test's `skip` option where there is no renderer. */
export const noRenderer: string | false = skipWithoutFile(
  library ?? "libvirglrenderer.so.1",
  "install libvirglrenderer1, libegl1 and libgl1-mesa-dri",
);

const BUFFER = 0;

/** A 3D resource with guest memory, in a context. */
export class Canvas {
  readonly id: number;
  readonly width: number;
  readonly height: number;
  readonly address: number;
  readonly bytes: number;
  readonly #context: GpuContext;

  constructor(context: GpuContext, id: number, shape: GpuShape) {
    const { driver } = context;
    this.#context = context;
    this.id = id;
    this.width = shape.width;
    this.height = shape.height ?? 1;
    this.bytes = this.width * this.height * (shape.target === BUFFER ? 1 : PIXEL);
    this.address = driver.frontend.memory.allocate(this.bytes, 4096);
    assert.equal(createResource3d(driver, id, shape), OK);
    assert.equal(driver.attach(id, [{ address: this.address, length: this.bytes }]), OK);
    assert.equal(context.attach(id), OK);
  }

  get rect() {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  /** What the renderer has, by way of the guest's memory. */
  pixels(): Uint8Array<ArrayBuffer> {
    const { memory } = this.#context.driver.frontend;
    memory.bytes(this.address, this.bytes).fill(0xee);
    assert.equal(this.#context.transferFrom(this.id, this.rect), OK);
    return memory.read(this.address, this.bytes);
  }
}

export interface DrawOptions {
  readonly width?: number;
  readonly height?: number;
  readonly format?: number;
  readonly flags?: number;
}

/** What a context draws: a background with a triangle over its left upper half. */
export class Drawing {
  readonly context: GpuContext;
  readonly canvas: Canvas;
  readonly #format: number;

  /** Uses resources `id` and `id + 1`, and a context of that number. */
  constructor(driver: GpuDriver, id = 1, options: DrawOptions = {}) {
    const { width = 64, height = 48, format = Format.B8G8R8X8, flags = 0 } = options;
    this.#format = format;
    this.context = new GpuContext(driver, id);
    assert.equal(this.context.create(), OK);
    const bind = Bind.RENDER_TARGET | Bind.SAMPLER_VIEW | Bind.SCANOUT;
    this.canvas = new Canvas(this.context, id, { format, bind, width, height, flags });
    const corners = [
      [-1, -1],
      [1, -1],
      [-1, 1],
    ] as const;
    const bytes = corners.length * VERTEX_SIZE;
    const shape = { target: BUFFER, format: Format.R8, bind: Bind.VERTEX_BUFFER, width: bytes };
    const buffer = new Canvas(this.context, id + 1, shape);
    corners.forEach(([x, y], i) => {
      const red = vertex(x, y, [1, 0, 0]);
      driver.frontend.memory.write(buffer.address + i * VERTEX_SIZE, red);
    });
    assert.equal(this.context.transferTo(id + 1, { width: bytes }), OK);
  }

  /** Commands that make the picture. */
  stream(): number[] {
    const { width, height, id } = this.canvas;
    return [
      ...target(100, id, this.#format),
      ...clear(0, 0, 1),
      ...pipeline(101, width, height),
      ...draw(id + 1, 3),
    ];
  }
}

/** Resource flag: what is drawn begins at the bottom, what is transferred and shown at the top. */
export const Y_0_TOP = 1;

/** Checks the picture's colours, blue, green and red of each pixel, away from the triangle's edge. */
export function checkDrawing(
  pixels: Uint8Array,
  { width, height }: { readonly width: number; readonly height: number },
  flags = 0,
): void {
  for (let y = 0; y < height; y++) {
    const drawn = flags === Y_0_TOP ? height - 1 - y : y;
    for (let x = 0; x < width; x++) {
      const edge = (x + 0.5) / width + (drawn + 0.5) / height - 1;
      if (Math.abs(edge) < 2 / Math.min(width, height)) continue;
      const at = (y * width + x) * PIXEL;
      const color = [...pixels.subarray(at, at + 3)];
      const wanted = edge < 0 ? [0, 0, 255] : [255, 0, 0];
      if (String(color) !== String(wanted)) assert.deepEqual(color, wanted, `at ${x}, ${y}`);
    }
  }
}
