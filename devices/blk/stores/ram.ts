/** Blocks in memory, gone when the process ends. Sparse: untouched parts take no memory. */
import {
  createMemfd,
  EIO,
  errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  type Fd,
  Iovecs,
  libc,
  Mapping,
} from "../../../ffi/mod.ts";
import type { Store, Transfer } from "../store.ts";

export class RamStore implements Store {
  size: number;
  readonly readOnly: boolean;
  readonly physicalBlockSize = 4096;
  readonly #fd: Fd;
  readonly #mapping: Mapping;
  readonly #iovecs = new Iovecs();

  constructor(size: number, readOnly: boolean) {
    this.size = size;
    this.readOnly = readOnly;
    this.#fd = createMemfd("ringside-ram-disk", size);
    this.#mapping = new Mapping(this.#fd, size);
  }

  read(transfer: Transfer, offset: number): number {
    return this.#copy(transfer, offset, false);
  }

  write(transfer: Transfer, offset: number): number {
    return this.#copy(transfer, offset, true);
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

  /**
   * Copies by addresses: a copy between two typed arrays needs a view of each part, and these would be
   * all that a request allocates.
   */
  #copy(transfer: Transfer, offset: number, write: boolean): number {
    const iovecs = this.#iovecs;
    const { words } = iovecs;
    const end = this.#mapping.address + offset + transfer.length;
    for (let at = this.#mapping.address + offset; at < end; ) {
      iovecs.clear();
      transfer.iovecs(iovecs, at - this.#mapping.address - offset);
      if (iovecs.count === 0) return -EIO;
      for (let i = 0; i < iovecs.count << 2; i += 4) {
        const guest = words[i + 1]! * 4294967296 + words[i]!;
        const length = words[i + 2]!;
        if (write) libc.memcpy(at, guest, length);
        else libc.memcpy(guest, at, length);
        at += length;
      }
    }
    return 0;
  }
}
