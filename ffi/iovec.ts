import { IOVEC_SIZE } from "./abi.ts";
import { runtime } from "./libc.ts";

/** The kernel's limit of entries per call (UIO_MAXIOV). */
export const IOV_MAX = 1024;

/**
 * A reusable struct iovec array. Addresses go in as two u32 halves, so that no 64-bit argument and
 * no BigInt is needed to hand guest memory to the kernel.
 */
export class Iovecs {
  /** The raw array: per entry address low, address high, length low, length high. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Entries in use. */
  count = 0;
  /** Bytes in all entries. */
  bytes = 0;
  readonly #capacity: number;

  constructor(capacity = IOV_MAX) {
    this.words = new Uint32Array(new ArrayBuffer(capacity * IOVEC_SIZE));
    this.#capacity = capacity;
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }

  /** Appends memory by address. Returns false when the array is full. */
  push(address: number, length: number): boolean {
    const count = this.count;
    if (count === this.#capacity) return false;
    const at = count << 2;
    const words = this.words;
    words[at] = address >>> 0;
    words[at + 1] = (address / 4294967296) >>> 0;
    words[at + 2] = length;
    words[at + 3] = 0;
    this.count = count + 1;
    this.bytes += length;
    return true;
  }

  /** The address of entry `i`. */
  address(i: number): number {
    const at = i << 2;
    return this.words[at + 1]! * 4294967296 + this.words[at]!;
  }

  /** Appends a typed array, which must stay referenced until the call is over. */
  pushView(view: ArrayBufferView): boolean {
    return this.push(runtime.addressOf(view), view.byteLength);
  }
}
