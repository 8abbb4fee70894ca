/** A store in an array that writes down what it is asked for, and fails or waits on demand. */
import type { Store, StoreResult, Transfer } from "../../devices/blk/store.ts";

export class MemoryStore implements Store {
  size: number;
  readOnly = false;
  physicalBlockSize = 512;
  readonly async: boolean;
  readonly data: Uint8Array;
  /** What was asked for, as `write 512+1024`. */
  readonly log: string[] = [];
  /** Results that the next calls answer with instead of 0, by the call's name. */
  readonly failures = new Map<string, number>();
  /** Requests of an async store that wait for `release`. */
  readonly waiting: { readonly name: string; readonly release: () => void }[] = [];

  constructor(size: number, { async = false } = {}) {
    this.size = size;
    this.async = async;
    this.data = Uint8Array.from({ length: size }, (_, i) => (i >> 9) * 17 + i);
  }

  read(transfer: Transfer, offset: number): StoreResult {
    return this.#answer("read", offset, transfer.length, () =>
      transfer.copyIn(this.data.subarray(offset, offset + transfer.length)),
    );
  }

  write(transfer: Transfer, offset: number): StoreResult {
    return this.#answer("write", offset, transfer.length, () => {
      const copy = new Uint8Array(transfer.length);
      transfer.copyOut(copy);
      this.data.set(copy, offset);
    });
  }

  flush(): StoreResult {
    return this.#answer("flush");
  }

  discard(offset: number, length: number): StoreResult {
    return this.#answer("discard", offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): StoreResult {
    return this.#answer(unmap ? "unmap" : "zero", offset, length, () => {
      this.data.fill(0, offset, offset + length);
    });
  }

  [Symbol.dispose](): void {
    this.log.push("dispose");
  }

  #answer(name: string, offset = 0, length = 0, work: () => void = () => {}): StoreResult {
    const act = (): number => {
      this.log.push(length === 0 ? name : `${name} ${offset}+${length}`);
      const failure = this.failures.get(name);
      if (failure === undefined) work();
      return failure ?? 0;
    };
    if (!this.async) return act();
    return new Promise((resolve, reject) => {
      const release = () => {
        try {
          resolve(act());
        } catch (error) {
          reject(error);
        }
      };
      this.waiting.push({ name, release });
    });
  }
}
