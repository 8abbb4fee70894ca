/**
 * Pixel formats (virtio 1.3, 5.7.6.8). Names give the bytes in the order they have in memory. Here
 * all images are B8G8R8A8, which is what drivers use and what the GPU protocol wants: pixels of
 * other formats are turned into it when they come in.
 */

/** What makes B8G8R8A8 of a format. */
export const Order = {
  /** B8G8R8A8, B8G8R8X8: nothing. */
  BGRA: 0,
  /** A8R8G8B8, X8R8G8B8: all bytes in reverse. */
  ARGB: 1,
  /** R8G8B8A8, R8G8B8X8: red and blue change places. */
  RGBA: 2,
  /** X8B8G8R8, A8B8G8R8: the first byte becomes the last. */
  ABGR: 3,
} as const;

const orders: ReadonlyMap<number, number> = new Map([
  [1, Order.BGRA],
  [2, Order.BGRA],
  [3, Order.ARGB],
  [4, Order.ARGB],
  [67, Order.RGBA],
  [134, Order.RGBA],
  [68, Order.ABGR],
  [121, Order.ABGR],
]);

/** The `Order` of a format by its number, or -1 when there is no such format. */
export function orderOf(format: number): number {
  return orders.get(format) ?? -1;
}

/** Turns the pixels from index `from` up to `to` into B8G8R8A8, in place. */
export function reorder(pixels: Uint32Array, from: number, to: number, order: number): void {
  switch (order) {
    case Order.ARGB:
      for (let i = from; i < to; i++) {
        const v = pixels[i]!;
        pixels[i] = (v << 24) | ((v & 0xff00) << 8) | ((v >>> 8) & 0xff00) | (v >>> 24);
      }
      return;
    case Order.RGBA:
      for (let i = from; i < to; i++) {
        const v = pixels[i]!;
        pixels[i] = (v & 0xff00ff00) | ((v & 0xff) << 16) | ((v >>> 16) & 0xff);
      }
      return;
    case Order.ABGR:
      for (let i = from; i < to; i++) {
        const v = pixels[i]!;
        pixels[i] = (v >>> 8) | (v << 24);
      }
  }
}
