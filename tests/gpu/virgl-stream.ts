/**
 * Streams of virgl commands, as Mesa's driver makes them: a header of command, kind of object and number
 * of words, then the words (virgl_protocol.h). Only what the tests draw with.
 */

const Command = {
  CREATE_OBJECT: 1,
  BIND_OBJECT: 2,
  SET_VIEWPORT_STATE: 4,
  SET_FRAMEBUFFER_STATE: 5,
  SET_VERTEX_BUFFERS: 6,
  CLEAR: 7,
  DRAW_VBO: 8,
  BIND_SHADER: 31,
} as const;

const Kind = {
  BLEND: 1,
  RASTERIZER: 2,
  DSA: 3,
  SHADER: 4,
  VERTEX_ELEMENTS: 5,
  SURFACE: 8,
} as const;

export const Format = { B8G8R8A8: 1, B8G8R8X8: 2, R32G32B32A32_FLOAT: 31, R8: 64, R8G8B8A8: 67 };
export const Bind = { RENDER_TARGET: 2, SAMPLER_VIEW: 8, VERTEX_BUFFER: 16, SCANOUT: 1 << 18 };

const VERTEX = 0;
const FRAGMENT = 1;
const CLEAR_COLOR = 4;
const TRIANGLES = 4;
const COLOR_MASK = 0xf << 27;
/** Depth clipping, centres of pixels at halves. */
const RASTERIZER = (1 << 1) | (1 << 29);
const SHADER_TOKENS = 300;

/** Four floats for the place, four for the colour. */
export const VERTEX_SIZE = 32;

const vertexShader = `VERT
DCL IN[0]
DCL IN[1]
DCL OUT[0], POSITION
DCL OUT[1], COLOR
  0: MOV OUT[0], IN[0]
  1: MOV OUT[1], IN[1]
  2: END
`;
const fragmentShader = `FRAG
DCL IN[0], COLOR, LINEAR
DCL OUT[0], COLOR
  0: MOV OUT[0], IN[0]
  1: END
`;

const command = (code: number, kind: number, words: readonly number[]): number[] => [
  (code | (kind << 8) | (words.length << 16)) >>> 0,
  ...words,
];

const floats = (...values: readonly number[]): number[] => [
  ...new Uint32Array(new Float32Array(values).buffer),
];

/** Text as words, with a zero at its end. */
function textWords(text: string): number[] {
  const bytes = new Uint8Array(Math.ceil((text.length + 1) / 4) * 4);
  new TextEncoder().encodeInto(text, bytes);
  return [...new Uint32Array(bytes.buffer)];
}

/** Makes a resource what is drawn to. `handle` names the surface in its context. */
export function target(handle: number, resource: number, format: number): number[] {
  return [
    ...command(Command.CREATE_OBJECT, Kind.SURFACE, [handle, resource, format, 0, 0]),
    ...command(Command.SET_FRAMEBUFFER_STATE, 0, [1, 0, handle]),
  ];
}

/** Fills what is drawn to with a colour, each part from 0 to 1. */
export function clear(red: number, green: number, blue: number, alpha = 1): number[] {
  const color = floats(red, green, blue, alpha);
  return command(Command.CLEAR, 0, [CLEAR_COLOR, ...color, 0, 0, 0]);
}

/** All that drawing triangles needs: names from `handle` on. */
export function pipeline(handle: number, width: number, height: number): number[] {
  const [elements, vertices, fragments, blend, depth, raster] = [0, 1, 2, 3, 4, 5].map(
    (i) => handle + i,
  ) as [number, number, number, number, number, number];
  const create = (kind: number, words: readonly number[]) =>
    command(Command.CREATE_OBJECT, kind, words);
  const bind = (kind: number, name: number) => command(Command.BIND_OBJECT, kind, [name]);
  const shader = (name: number, stage: number, text: string) => [
    ...create(Kind.SHADER, [name, stage, text.length + 1, SHADER_TOKENS, 0, ...textWords(text)]),
    ...command(Command.BIND_SHADER, 0, [name, stage]),
  ];
  const element = (offset: number) => [offset, 0, 0, Format.R32G32B32A32_FLOAT];
  const half = [width / 2, height / 2, 0.5];
  return [
    ...create(Kind.VERTEX_ELEMENTS, [elements, ...element(0), ...element(16)]),
    ...bind(Kind.VERTEX_ELEMENTS, elements),
    ...shader(vertices, VERTEX, vertexShader),
    ...shader(fragments, FRAGMENT, fragmentShader),
    ...create(Kind.BLEND, [blend, 0, 0, COLOR_MASK, 0, 0, 0, 0, 0, 0, 0]),
    ...bind(Kind.BLEND, blend),
    ...create(Kind.DSA, [depth, 0, 0, 0, 0]),
    ...bind(Kind.DSA, depth),
    ...create(Kind.RASTERIZER, [raster, RASTERIZER, ...floats(1), 0, 0, ...floats(1, 0, 0, 0)]),
    ...bind(Kind.RASTERIZER, raster),
    ...command(Command.SET_VIEWPORT_STATE, 0, [0, ...floats(...half, ...half)]),
  ];
}

/** Draws `count` vertices of a buffer as triangles. */
export function draw(buffer: number, count: number): number[] {
  return [
    ...command(Command.SET_VERTEX_BUFFERS, 0, [VERTEX_SIZE, 0, buffer]),
    ...command(Command.DRAW_VBO, 0, [0, count, TRIANGLES, 0, 1, 0, 0, 0, 0, 0, count - 1, 0]),
  ];
}

/** The bytes of a vertex. */
export function vertex(x: number, y: number, color: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Float32Array([x, y, 0, 1, ...color, 1]).buffer);
}
