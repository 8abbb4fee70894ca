/** A store in memory whose requests are carried out when its kind says. */
import type { Store, StoreResult, Transfer } from "../../devices/blk/mod.ts";

export abstract class LateStore implements Store {
  readonly size: number;
  readonly readOnly = false;
  readonly physicalBlockSize = 512;
  readonly async = true;
  readonly #data: Uint8Array;

  constructor(size: number) {
    this.size = size;
    this.#data = new Uint8Array(size);
  }

  /** Carries a request for the bytes from `offset` on out, now or later. Returns its result. */
  protected abstract inTime(carryOut: () => number, offset: number): StoreResult;

  read(transfer: Transfer, offset: number): StoreResult {
    return this.inTime(() => {
      transfer.copyIn(this.#data.subarray(offset, offset + transfer.length));
      return 0;
    }, offset);
  }

  write(transfer: Transfer, offset: number): StoreResult {
    return this.inTime(() => {
      transfer.copyOut(this.#data.subarray(offset, offset + transfer.length));
      return 0;
    }, offset);
  }

  flush(): number {
    return 0;
  }

  [Symbol.dispose](): void {}
}
