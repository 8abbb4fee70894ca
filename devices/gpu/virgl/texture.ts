/** The renderer's side of a resource. */
import type { AddressSpace } from "../../../core/address-space.ts";
import { type Block, Box, IOVEC_SIZE, Iovecs, ResourceArgs } from "../../../ffi/mod.ts";
import type { Backing } from "../backing.ts";
import { Order, orderOf, reorder } from "../formats.ts";
import type { Image } from "../image.ts";
import type { Rect } from "../scanouts.ts";
import type { Renderer, Transfer3d } from "./renderer.ts";
import { type Shape, sideAt, spanOf } from "./shape.ts";

/** Bytes of guest memory at most: the renderer counts them, and what a transfer takes, in 32 bits. */
const MAX_BACKING = 2 ** 30;

/** Transfers of whole rectangles of the host's own images. */
const imageMemory = new Iovecs(1);
const imageTransfer: Transfer3d = {
  context: 0,
  level: 0,
  stride: 0,
  layerStride: 0,
  offset: 0,
  box: new Uint32Array(new ArrayBuffer(4 * Box.words)),
};

export class Texture implements Disposable {
  readonly id: number;
  readonly shape: Shape;
  /** The `Order` of its pixels; -1 when they cannot be shown. */
  readonly order: number;
  readonly #renderer: Renderer;
  /** The list of guest memory that the renderer keeps. */
  #iovecs: Block | null = null;

  /** Creates the resource. Returns null when the renderer refuses. */
  static create(renderer: Renderer, id: number, shape: Shape): Texture | null {
    const args = shape.words.slice();
    args[ResourceArgs.handle] = id;
    return renderer.createResource(args) ? new Texture(renderer, id, shape) : null;
  }

  private constructor(renderer: Renderer, id: number, shape: Shape) {
    this.#renderer = renderer;
    this.id = id;
    this.shape = shape;
    this.order = shape.flat ? orderOf(shape.format) : -1;
  }

  /** Guest memory is known to the renderer. */
  get attached(): boolean {
    return this.#iovecs !== null;
  }

  /**
   * Tells the renderer where the resource's guest memory is. False when some of it is no memory, or the
   * renderer refuses. `detach` comes before any of it goes away.
   */
  attach(backing: Backing, space: AddressSpace): boolean {
    this.detach();
    if (backing.size >= MAX_BACKING) return false;
    const pieces: number[] = [];
    const merge = (address: number, length: number): void => {
      const last = pieces.length - 2;
      if (last >= 0 && pieces[last]! + pieces[last + 1]! === address) pieces[last + 1]! += length;
      else pieces.push(address, length);
    };
    if (!backing.locate(space, merge) || pieces.length === 0) return false;
    const count = pieces.length / 2;
    const { arena } = this.#renderer;
    const block = arena.take(count * IOVEC_SIZE);
    pieces.forEach((value, i) => {
      block.words[2 * i] = value >>> 0;
      block.words[2 * i + 1] = Math.floor(value / 2 ** 32);
    });
    if (!this.#renderer.attach(this.id, block, count)) {
      arena.giveBack(block);
      return false;
    }
    this.#iovecs = block;
    return true;
  }

  detach(): void {
    if (this.#iovecs === null) return;
    this.#renderer.detach(this.id);
    this.#renderer.arena.giveBack(this.#iovecs);
    this.#iovecs = null;
  }

  /** Tells whether a box lies in a level that there is, and is not empty. */
  holds(box: Uint32Array, level: number): boolean {
    const { width, height, depth, layers, lastLevel } = this.shape;
    if (level > lastLevel) return false;
    const fits = (at: number, size: number, limit: number): boolean =>
      box[size]! > 0 && box[at]! + box[size]! <= limit;
    return (
      fits(Box.x, Box.width, sideAt(width, level)) &&
      fits(Box.y, Box.height, sideAt(height, level)) &&
      fits(Box.z, Box.depth, Math.max(layers, sideAt(depth, level)))
    );
  }

  /**
   * Bytes from the first row of a transfer to its last one, or at least so many. The renderer's own sum may
   * wrap.
   */
  span({ box, level, stride, layerStride }: Transfer3d): number {
    return spanOf(this.shape, level, box[Box.height]!, box[Box.depth]!, stride, layerStride);
  }

  /** Copies a rectangle to its place in an image of the same size. */
  readInto(image: Image, rect: Rect): boolean {
    if (!this.#renderer.read(this.id, prepare(image, rect), imageMemory)) return false;
    if (this.order === Order.BGRA) return true;
    for (let row = rect.y; row < rect.y + rect.height; row++) {
      const first = row * image.width + rect.x;
      reorder(image.pixels, first, first + rect.width, this.order);
    }
    return true;
  }

  /** Copies everything to an image of the same size. */
  readAll(image: Image): boolean {
    return this.readInto(image, { x: 0, y: 0, width: image.width, height: image.height });
  }

  /** Copies a rectangle of an image of the same size to its place. */
  writeFrom(image: Image, rect: Rect): boolean {
    return this.#renderer.write(this.id, prepare(image, rect), imageMemory);
  }

  /** Removes the resource. */
  [Symbol.dispose](): void {
    this.detach();
    this.#renderer.removeResource(this.id);
  }
}

function prepare(image: Image, { x, y, width, height }: Rect): Transfer3d {
  imageMemory.clear();
  imageMemory.pushView(image.bytes);
  const { box } = imageTransfer;
  box[Box.x] = x;
  box[Box.y] = y;
  box[Box.z] = 0;
  box[Box.width] = width;
  box[Box.height] = height;
  box[Box.depth] = 1;
  imageTransfer.stride = image.stride;
  imageTransfer.offset = y * image.stride + x * 4;
  return imageTransfer;
}
