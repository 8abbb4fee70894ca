/**
 * Numbers as they are in little-endian words of guest memory: swapped on the rings of drivers from
 * before virtio 1.0 that run on big-endian machines (virtio 1.3, 2.7.3).
 */

function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

function swap32(value: number): number {
  return ((swap16(value) << 16) | swap16(value >>> 16)) >>> 0;
}

/** Each conversion is its own inverse. */
export class ByteOrder {
  readonly bigEndian: boolean;

  constructor(bigEndian = false) {
    this.bigEndian = bigEndian;
  }

  /** 16 bits. */
  half(value: number): number {
    return this.bigEndian ? swap16(value) : value;
  }

  /** 32 bits. */
  word(value: number): number {
    return this.bigEndian ? swap32(value) : value;
  }

  /** The word of two 16-bit numbers, one after the other. */
  halves(first: number, second: number): number {
    return this.half(first) | (this.half(second) << 16);
  }

  /** Writes a 64-bit number, of which `low` and `high` are the halves, to two words from `at` on. */
  setU64(words: Uint32Array, at: number, low: number, high: number): void {
    words[at] = this.bigEndian ? swap32(high) : low;
    words[at + 1] = this.bigEndian ? swap32(low) : high;
  }
}
