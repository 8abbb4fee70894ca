/** Memory of this process that JavaScript knows by its address only. */
import {
  MADV_DONTDUMP,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FAILED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from "./abi.ts";
import { errno, libc, SystemError } from "./libc.ts";
import { PAGE_SIZE } from "./mapping.ts";

const HUGE_PAGE = 2 * 2 ** 20;

/** Zeros at first. What was never written to takes no memory. */
export class PrivateMemory implements Disposable {
  readonly address: number;
  readonly length: number;
  #whole: { readonly address: number; readonly length: number } | null;

  /**
   * `huge`: asks for huge pages, which are faster to get at and taken 2 MiB at a time. Throws `SystemError`
   * from mmap.
   */
  constructor(length: number, huge: boolean) {
    const size = length + HUGE_PAGE;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const address = libc.mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (address === MAP_FAILED) throw new SystemError("mmap", errno());
    this.#whole = { address, length: size };
    this.address = Math.ceil(address / HUGE_PAGE) * HUGE_PAGE;
    this.length = length;
    libc.madvise(address, size, MADV_DONTDUMP);
    // A kernel without huge pages refuses, and nothing is lost.
    if (huge) libc.madvise(this.address, length, MADV_HUGEPAGE);
  }

  /** Makes a range zeros and gives its whole pages back. Returns 0 or a negative error number. */
  clear(offset: number, length: number): number {
    const start = this.address + offset;
    const end = start + length;
    const first = Math.ceil(start / PAGE_SIZE) * PAGE_SIZE;
    const last = Math.floor(end / PAGE_SIZE) * PAGE_SIZE;
    if (first >= last) {
      libc.memset(start, 0, length);
      return 0;
    }
    libc.memset(start, 0, first - start);
    libc.memset(last, 0, end - last);
    return libc.madvise(first, last - first, MADV_DONTNEED) < 0 ? -errno() : 0;
  }

  [Symbol.dispose](): void {
    if (this.#whole === null) return;
    libc.munmap(this.#whole.address, this.#whole.length);
    this.#whole = null;
  }
}
