/** Numbers of the graphics device as a driver reads the specification (virtio 1.3, 5.7). */

/** Feature bits. */
export const GpuBit = {
  VIRGL: 0,
  EDID: 1,
  RESOURCE_UUID: 2,
  RESOURCE_BLOB: 3,
  CONTEXT_INIT: 4,
} as const;

export const GpuCommand = {
  GET_DISPLAY_INFO: 0x100,
  RESOURCE_CREATE_2D: 0x101,
  RESOURCE_UNREF: 0x102,
  SET_SCANOUT: 0x103,
  RESOURCE_FLUSH: 0x104,
  TRANSFER_TO_HOST_2D: 0x105,
  RESOURCE_ATTACH_BACKING: 0x106,
  RESOURCE_DETACH_BACKING: 0x107,
  GET_CAPSET_INFO: 0x108,
  GET_CAPSET: 0x109,
  GET_EDID: 0x10a,
  RESOURCE_ASSIGN_UUID: 0x10b,
  RESOURCE_CREATE_BLOB: 0x10c,
  SET_SCANOUT_BLOB: 0x10d,
  CTX_CREATE: 0x200,
  CTX_DESTROY: 0x201,
  CTX_ATTACH_RESOURCE: 0x202,
  CTX_DETACH_RESOURCE: 0x203,
  RESOURCE_CREATE_3D: 0x204,
  TRANSFER_TO_HOST_3D: 0x205,
  TRANSFER_FROM_HOST_3D: 0x206,
  SUBMIT_3D: 0x207,
  UPDATE_CURSOR: 0x300,
  MOVE_CURSOR: 0x301,
} as const;

export const GpuResponse = {
  OK: 0x1100,
  DISPLAY_INFO: 0x1101,
  CAPSET_INFO: 0x1102,
  CAPSET: 0x1103,
  EDID: 0x1104,
  RESOURCE_UUID: 0x1105,
  UNSPEC: 0x1200,
  OUT_OF_MEMORY: 0x1201,
  INVALID_SCANOUT_ID: 0x1202,
  INVALID_RESOURCE_ID: 0x1203,
  INVALID_CONTEXT_ID: 0x1204,
  INVALID_PARAMETER: 0x1205,
} as const;

/** Pixel formats by the order of their bytes in memory. */
export const GpuFormat = {
  B8G8R8A8: 1,
  B8G8R8X8: 2,
  A8R8G8B8: 3,
  X8R8G8B8: 4,
  R8G8B8A8: 67,
  X8B8G8R8: 68,
  A8B8G8R8: 121,
  R8G8B8X8: 134,
} as const;

/** Bytes of a command's header, and of a response without anything else. */
export const GPU_HEADER = 24;

/** A command of a type: its header, then 32-bit words. A u64 is two of them, the lower one first. */
export function gpuCommand(type: number, ...words: readonly number[]): Uint8Array<ArrayBuffer> {
  return gpuCommandOf(type, words);
}

/** The same for any number of words. */
export function gpuCommandOf(type: number, words: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(GPU_HEADER + 4 * words.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  words.forEach((word, i) => {
    view.setUint32(GPU_HEADER + 4 * i, word, true);
  });
  return bytes;
}

/** Has a command name its context, and its fence unless that is null. Returns the command. */
export function inContext(
  command: Uint8Array<ArrayBuffer>,
  context: number,
  fence: number | null = null,
): Uint8Array<ArrayBuffer> {
  const view = new DataView(command.buffer);
  view.setUint32(16, context, true);
  if (fence === null) return command;
  view.setUint32(4, 1, true);
  view.setUint32(8, fence, true);
  return command;
}

/** The two words of a u64 below 2^53. */
export const words64 = (value: number): [number, number] => [
  value >>> 0,
  Math.floor(value / 2 ** 32),
];
