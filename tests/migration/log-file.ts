/** A dirty log in a file, as both sides have it. */
import { DirtyLog } from "../../core/dirty-log.ts";
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";

export class LogFile implements Disposable {
  readonly fd: Fd;
  readonly bits: Uint8Array<ArrayBuffer>;
  readonly #mapping: Mapping;

  /** A log of `size` bytes at `offset` of its file, which has a page more. */
  constructor(size: number, offset = 0) {
    const length = Math.ceil((offset + size) / 4) * 4 + 4096;
    this.fd = createMemfd("ringside-test-log", length);
    this.#mapping = new Mapping(this.fd, length);
    this.bits = this.#mapping.windows[0]!.u8.subarray(0, length);
  }

  /** The back-end's side of it. */
  open(offset: number, size: number): DirtyLog {
    const log = new DirtyLog();
    log.replace(this.fd, offset, size);
    return log;
  }

  /** Takes the marks in the whole file: bit numbers, ascending. Nothing may set any meanwhile. */
  take(): number[] {
    const pages: number[] = [];
    const words = new Int32Array(this.bits.buffer, 0, this.bits.length >> 2);
    words.forEach((marks, at) => {
      if (marks === 0) return;
      words[at] = 0;
      for (let bit = 0; bit < 32; bit++) if ((marks >> bit) & 1) pages.push(at * 32 + bit);
    });
    return pages;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.fd.close();
  }
}

/** The pages of `length` bytes at an address. */
export function pagesOf(address: number, length: number): number[] {
  const first = Math.floor(address / 4096);
  const count = length === 0 ? 0 : Math.floor((address + length - 1) / 4096) - first + 1;
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Page numbers without repetition, ascending. */
export const union = (...pages: readonly number[][]): number[] =>
  [...new Set(pages.flat())].sort((a, b) => a - b);
