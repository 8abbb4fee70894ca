/** Blocks in memory, gone when the process ends. Sparse: untouched parts take no memory. */
import { totalmem } from "node:os";
import { EIO, Iovecs, libc, PrivateMemory } from "../../../ffi/mod.ts";
import type { Store, Transfer } from "../store.ts";

/**
 * Disks of up to this part of the machine's memory are kept in huge pages: random reads are a fifth faster,
 * and a disk on which little is written here and there takes more than that, up to its size.
 */
const HUGE_SHARE = 1 / 4;

export class RamStore implements Store {
  size: number;
  readonly readOnly: boolean;
  readonly physicalBlockSize = 4096;
  readonly #memory: PrivateMemory;
  readonly #iovecs = new Iovecs();

  constructor(size: number, readOnly: boolean) {
    this.size = size;
    this.readOnly = readOnly;
    this.#memory = new PrivateMemory(size, size <= totalmem() * HUGE_SHARE);
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
    return this.#memory.clear(offset, length);
  }

  writeZeroes(offset: number, length: number): number {
    return this.#memory.clear(offset, length);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  /**
   * Copies by addresses: a copy between two typed arrays needs a view of each part, and these would be
   * all that a request allocates.
   */
  #copy(transfer: Transfer, offset: number, write: boolean): number {
    const iovecs = this.#iovecs;
    const { words } = iovecs;
    const start = this.#memory.address + offset;
    const end = start + transfer.length;
    for (let at = start; at < end; ) {
      iovecs.clear();
      transfer.iovecs(iovecs, at - start);
      if (iovecs.count === 0) return -EIO;
      for (let i = 0; i < iovecs.count; i++) {
        const guest = iovecs.address(i);
        const length = words[(i << 2) + 2]!;
        if (write) libc.memcpy(at, guest, length);
        else libc.memcpy(guest, at, length);
        at += length;
      }
    }
    return 0;
  }
}
