/** What a 3D resource is: its form, its sizes, and what it takes (virtio 1.3, 5.7.6.8). */
import type { Chain } from "../../../core/chain.ts";
import { ResourceArgs } from "../../../ffi/mod.ts";
import { MAX_SIDE } from "../commands.ts";
import { Create3d } from "../wire.ts";

/** Forms of resources (virgl_hw.h: pipe_texture_target). */
const Target = {
  BUFFER: 0,
  TEXTURE_1D: 1,
  TEXTURE_2D: 2,
  TEXTURE_3D: 3,
  CUBE: 4,
  RECT: 5,
  ARRAY_1D: 6,
  ARRAY_2D: 7,
  CUBE_ARRAY: 8,
} as const;

/** VIRGL_BIND_SAMPLER_VIEW and VIRGL_BIND_RENDER_TARGET: what any image is good for. */
const BIND_IMAGE = 0x2 | 0x8;

/** What a resource takes besides its pixels, in bytes; about what the renderer's objects do. */
const OBJECT_COST = 8192;

/** Bytes of a resource at most: the renderer counts some of them in 32 bits. */
const MAX_COST = 2 ** 31;

/** Bytes of a buffer, samples of a pixel, layers of an array, and formats at most. */
const MAX_BUFFER = 2 ** 30;
const MAX_SAMPLES = 32;
const MAX_LAYERS = 2048;
const MAX_FORMAT = 511;

export interface Shape {
  /** virgl_renderer_resource_create_args, all but the handle. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly format: number;
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  readonly layers: number;
  readonly lastLevel: number;
  /** Set for what a scanout can show, if its format allows that. */
  readonly flat: boolean;
}

/** Reads the shape of a command. Null for one that no renderer has; which it has is its own business. */
export function readShape(chain: Chain): Shape | null {
  const words = new Uint32Array(new ArrayBuffer(4 * ResourceArgs.words));
  for (let at: number = Create3d.target; at <= Create3d.flags; at += 4) {
    words[ResourceArgs.target + (at - Create3d.target) / 4] = chain.readU32(at);
  }
  return shapeOf(words);
}

/** The shape of an image of B8G8R8A8. */
export function imageShape(format: number, width: number, height: number): Shape {
  const words = new Uint32Array(new ArrayBuffer(4 * ResourceArgs.words));
  words[ResourceArgs.target] = Target.TEXTURE_2D;
  words[ResourceArgs.format] = format;
  words[ResourceArgs.bind] = BIND_IMAGE;
  words[ResourceArgs.width] = width;
  words[ResourceArgs.height] = height;
  words[ResourceArgs.depth] = 1;
  words[ResourceArgs.arraySize] = 1;
  return shapeOf(words)!;
}

function shapeOf(words: Uint32Array<ArrayBuffer>): Shape | null {
  const at = (index: number): number => words[index]!;
  const target = at(ResourceArgs.target);
  const format = at(ResourceArgs.format);
  const width = at(ResourceArgs.width);
  const height = at(ResourceArgs.height);
  const depth = at(ResourceArgs.depth);
  const layers = at(ResourceArgs.arraySize);
  const lastLevel = at(ResourceArgs.lastLevel);
  const samples = at(ResourceArgs.samples);
  if (target > Target.CUBE_ARRAY || format === 0 || format > MAX_FORMAT) return null;
  if (width === 0 || height === 0 || depth === 0 || layers === 0) return null;
  if (layers > MAX_LAYERS || samples > MAX_SAMPLES) return null;
  if (target === Target.BUFFER) {
    if (width > MAX_BUFFER || height > 1 || depth > 1 || layers > 1 || lastLevel > 0) return null;
  } else if (width > MAX_SIDE || height > MAX_SIDE || depth > MAX_LAYERS) return null;
  const longest = Math.max(width, height, depth);
  if (lastLevel > Math.floor(Math.log2(longest))) return null;
  const flat = (target === Target.TEXTURE_2D || target === Target.RECT) && samples <= 1;
  const shape = { words, format, width, height, depth, layers, lastLevel, flat };
  return costOf(shape) < MAX_COST ? shape : null;
}

/** Sizes of the levels: each has half the sides of the one before, 1 at least. */
export function sideAt(side: number, level: number): number {
  return Math.max(1, side >>> level);
}

/** Bytes that the renderer takes for it, about. */
export function costOf({ words, format, width, height, depth, layers, lastLevel }: Shape): number {
  if (words[ResourceArgs.target] === Target.BUFFER) return OBJECT_COST + width;
  const samples = Math.max(1, words[ResourceArgs.samples]!);
  let pixels = 0;
  for (let level = 0; level <= lastLevel; level++) {
    pixels += sideAt(width, level) * sideAt(height, level) * sideAt(depth, level);
  }
  return OBJECT_COST + pixels * layers * samples * pixelBytes(format);
}

/** Numbers of formats whose pixels take other than 4 bytes, in ranges (virgl_hw.h: virgl_formats). */
const formatBytes: readonly (readonly [first: number, last: number, bytes: readonly number[]])[] = [
  [5, 7, [2]],
  [9, 11, [1]],
  [12, 16, [2]],
  [23, 23, [1]],
  [24, 27, [8, 16, 24, 32]],
  [28, 47, [4, 8, 12, 16]],
  [48, 63, [2, 4, 6, 8]],
  [64, 66, [1, 2, 4]],
  [69, 71, [1, 2, 4]],
  [74, 76, [1, 2, 4]],
  [82, 84, [1, 2, 4]],
  [87, 90, [4, 8, 12, 16]],
  [91, 94, [2, 4, 6, 8]],
  [95, 96, [1, 2]],
  [105, 116, [1]],
  [126, 126, [8]],
  [138, 138, [8]],
  [161, 161, [8]],
  [177, 179, [1, 2, 4]],
  [181, 183, [1, 2, 4]],
  [185, 192, [2, 4, 6, 8]],
  [193, 200, [4, 8, 12, 16]],
  [220, 220, [8]],
  [224, 224, [8]],
  [234, 238, [8]],
  [239, 241, [16]],
  [246, 246, [8]],
  [251, 252, [8]],
  [255, 258, [1]],
  [269, 306, [1]],
];

function pixelBytes(format: number): number {
  const row = formatBytes.find(([first, last]) => first <= format && format <= last);
  return row === undefined ? 4 : row[2][(format - row[0]) % row[2].length]!;
}

/** Formats of pixels in blocks, in ranges, with the rows of a block; those of ASTC have up to 12. */
const blocks: readonly (readonly [first: number, last: number, rows: number])[] = [
  [105, 116, 4],
  [143, 146, 4],
  [226, 226, 4],
  [255, 258, 4],
  [269, 278, 4],
  [279, 306, 12],
];

/** Rows of blocks, or at least so many, that `height` rows of pixels are. */
function blockRows(format: number, height: number): number {
  const row = blocks.find(([first, last]) => first <= format && format <= last);
  return row === undefined ? height : Math.ceil(height / row[2]);
}

/**
 * Bytes from the first row of a transfer to its last one, or at least so many: of `rows` and `layers` in a
 * level. 0 stands for rows and layers without gaps, which are not more than the resource has.
 */
export function spanOf(
  { format, height }: Shape,
  level: number,
  rows: number,
  layers: number,
  stride: number,
  layerStride: number,
): number {
  const layer = layerStride === 0 ? stride * blockRows(format, sideAt(height, level)) : layerStride;
  return (layers - 1) * layer + (blockRows(format, rows) - 1) * stride;
}
