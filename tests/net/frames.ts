/** Frames for the tests of the network device. */

/** A frame of `length` bytes with a payload that tells frames apart. */
export function makeFrame(
  length: number,
  seed = 0,
  to: readonly number[] = [2, 0, 0, 0, 0, 1],
  from: readonly number[] = [2, 0, 0, 0, 0, 2],
): Uint8Array<ArrayBuffer> {
  const frame = Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13 + (i >> 8)) & 0xff);
  frame.set([...to, ...from, 0x88, 0xb5]);
  return frame;
}

export const broadcast: readonly number[] = [255, 255, 255, 255, 255, 255];
