/** Blocks in memory, gone when the process ends. Sparse: untouched parts take no memory. */
import {
  createMemfd,
  errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  type Fd,
  libc,
  Mapping,
  WINDOW_SIZE,
} from "../../../ffi/mod.ts";
import type { Store, Transfer } from "../store.ts";

export class RamStore implements Store {
  size: number;
  readonly readOnly: boolean;
  readonly physicalBlockSize = 4096;
  readonly #fd: Fd;
  readonly #mapping: Mapping;

  constructor(size: number, readOnly: boolean) {
    this.size = size;
    this.readOnly = readOnly;
    this.#fd = createMemfd("ringside-ram-disk", size);
    this.#mapping = new Mapping(this.#fd, size);
  }

  read(transfer: Transfer, offset: number): number {
    for (let done = 0; done < transfer.length; ) {
      const part = this.#part(offset + done, transfer.length - done);
      transfer.copyIn(part, done);
      done += part.length;
    }
    return 0;
  }

  write(transfer: Transfer, offset: number): number {
    for (let done = 0; done < transfer.length; ) {
      const part = this.#part(offset + done, transfer.length - done);
      transfer.copyOut(part, done);
      done += part.length;
    }
    return 0;
  }

  flush(): number {
    return 0;
  }

  discard(offset: number, length: number): number {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return libc.fallocate(this.#fd.number, mode, offset, length) < 0 ? -errno() : 0;
  }

  writeZeroes(offset: number, length: number): number {
    return this.discard(offset, length);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#fd.close();
  }

  /** At most `length` bytes from `offset` on, up to the end of a window. */
  #part(offset: number, length: number): Uint8Array {
    const window = this.#mapping.windows[Math.floor(offset / WINDOW_SIZE)]!;
    const start = offset % WINDOW_SIZE;
    return window.u8.subarray(start, Math.min(start + length, window.length));
  }
}
