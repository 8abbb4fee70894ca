/** Pictures that tests draw: in guest memory, through a resource, onto a display. */

import assert from "node:assert/strict";
import type { GpuDisplay, GpuDriver, GpuRect, MemoryPiece } from "../../frontend/mod.ts";
import { GpuFormat, GpuResponse } from "../../frontend/mod.ts";

export const PIXEL = 4;

/** A picture in which no two places look alike; `seed` makes others of it. */
export function picture(width: number, height: number, seed = 0): Uint8Array<ArrayBuffer> {
  const pixels = new Uint32Array(width * height);
  for (let i = 0; i < pixels.length; i++) pixels[i] = Math.imul(i + 1 + seed * 7919, 0x9e3779b1);
  return new Uint8Array(pixels.buffer);
}

/** The same picture without what is in its X bytes, which mean nothing. */
export function opaque(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  for (let i = 3; i < copy.length; i += PIXEL) copy[i] = 0;
  return copy;
}

/** A resource, its guest memory, and a way to draw into it. */
export class Surface {
  readonly id: number;
  readonly width: number;
  readonly height: number;
  readonly address: number;
  readonly pieces: readonly MemoryPiece[];
  readonly #driver: GpuDriver;

  /** Creates the resource. `cut`: bytes of each piece of its memory; one piece by default. */
  constructor(
    driver: GpuDriver,
    id: number,
    width: number,
    height: number,
    format?: number,
    cut?: number,
  ) {
    const length = width * height * PIXEL;
    this.#driver = driver;
    this.id = id;
    this.width = width;
    this.height = height;
    this.address = driver.frontend.memory.allocate(length, 4096);
    const piece = cut ?? length;
    this.pieces = Array.from({ length: Math.ceil(length / piece) }, (_, i) => ({
      address: this.address + i * piece,
      length: Math.min(piece, length - i * piece),
    }));
    assert.equal(driver.create(id, width, height, format ?? GpuFormat.B8G8R8X8), GpuResponse.OK);
    assert.equal(driver.attach(id, this.pieces), GpuResponse.OK);
  }

  get rect(): GpuRect {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  /** Writes a whole picture to guest memory. */
  paint(bytes: Uint8Array): void {
    this.#driver.frontend.memory.write(this.address, bytes);
  }

  /** Has the device take part of it, and show that. */
  show(rect: GpuRect = this.rect): void {
    const offset = (rect.y * this.width + rect.x) * PIXEL;
    assert.equal(this.#driver.transfer(this.id, rect, offset), GpuResponse.OK);
    assert.equal(this.#driver.flush(this.id, rect), GpuResponse.OK);
  }

  setScanout(output = 0, rect: GpuRect = this.rect): void {
    assert.equal(this.#driver.setScanout(output, this.id, rect), GpuResponse.OK);
  }
}

/** Waits until a display shows a picture. */
export function shows(display: GpuDisplay, bytes: Uint8Array, output = 0): void {
  const wanted = Buffer.from(opaque(bytes));
  display.serveUntil(() => {
    const screen = display.screens[output];
    return screen != null && wanted.equals(opaque(screen.pixels));
  }, `right picture on output ${output}`);
}
