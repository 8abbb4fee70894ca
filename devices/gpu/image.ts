/** Pixels that the host has a copy of, B8G8R8A8, rows one after another. */
import { createMemfd, type Fd, Mapping, runtime, WINDOW_SIZE } from "../../ffi/mod.ts";
import { PIXEL } from "./wire.ts";

/**
 * From here on, pixels are mapped memory, which is there again as soon as it is given back: the garbage
 * collector would let a guest that changes its mode all the time have gigabytes. In bytes.
 */
const MAPPED = 64 * 1024;

export class Image implements Disposable {
  readonly width: number;
  readonly height: number;
  /** Bytes of a row. */
  readonly stride: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where they are in this process. */
  readonly address: number;
  /** The same as whole pixels, 0xAARRGGBB. */
  readonly pixels: Uint32Array<ArrayBuffer>;
  readonly #mapping: Mapping | null;

  /** All zero. Throws when there is no memory for it. */
  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
    this.stride = width * PIXEL;
    const size = this.stride * height;
    if (size > WINDOW_SIZE) throw new RangeError(`Cannot make an image of ${size} bytes`);
    this.#mapping = size < MAPPED ? null : map(size);
    const [window] = this.#mapping?.windows ?? [];
    const buffer = window?.u8.buffer ?? new ArrayBuffer(size);
    this.bytes = new Uint8Array(buffer, 0, size);
    this.address = window?.address ?? runtime.addressOf(this.bytes);
    this.pixels = new Uint32Array(buffer, 0, width * height);
  }

  /** Gives the memory back, after which the pixels are no longer this image's. */
  [Symbol.dispose](): void {
    this.#mapping?.[Symbol.dispose]();
  }
}

function map(size: number): Mapping {
  using memory: Fd = createMemfd("ringside-image", size);
  return new Mapping(memory, size);
}
