/**
 * A disk in memory that keeps some requests: those to its second half wait for the next flush,
 * which any queue may send, or a while. It shows what happens to requests in flight.
 */
import { Type } from "typebox";
import { blkDevice, type Store, type Transfer } from "../../devices/blk/mod.ts";

/** Bytes of the disk; requests from the middle on are held. */
export const HOLDING_SIZE = 1024 * 1024;
/** How long a request is held when no flush comes, in milliseconds. */
export const HOLD_LIMIT = 1000;

class HoldingStore implements Store {
  readonly size = HOLDING_SIZE;
  readonly readOnly = false;
  readonly physicalBlockSize = 512;
  readonly async = true;
  readonly #data = new Uint8Array(HOLDING_SIZE);
  #held: (() => void)[] = [];

  read(transfer: Transfer, offset: number): number | Promise<number> {
    return this.#afterHold(offset, () => {
      transfer.copyIn(this.#data.subarray(offset, offset + transfer.length));
    });
  }

  write(transfer: Transfer, offset: number): number | Promise<number> {
    return this.#afterHold(offset, () => {
      transfer.copyOut(this.#data.subarray(offset, offset + transfer.length));
    });
  }

  flush(): number {
    for (const release of this.#held.splice(0)) release();
    return 0;
  }

  [Symbol.dispose](): void {
    this.flush();
  }

  #afterHold(offset: number, move: () => void): number | Promise<number> {
    const finish = (): number => {
      move();
      return 0;
    };
    if (offset < HOLDING_SIZE / 2) return finish();
    return new Promise<void>((resolve) => {
      this.#held.push(resolve);
      setTimeout(resolve, HOLD_LIMIT);
    }).then(finish);
  }
}

export default blkDevice({
  name: "holding",
  summary: "Disk that holds requests until the next flush",
  options: Type.Object({}),
  async: true,
  open: () => new HoldingStore(),
});
