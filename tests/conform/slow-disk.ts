/** A disk in memory that answers later and out of order: there are always requests in flight. */
import { Type } from "typebox";
import { blkDevice, type Store, type Transfer } from "../../devices/blk/mod.ts";

const SIZE = 1024 * 1024;

class SlowStore implements Store {
  readonly size = SIZE;
  readonly readOnly = false;
  readonly physicalBlockSize = 512;
  readonly async = true;
  readonly #data = new Uint8Array(SIZE);
  #count = 0;

  read(transfer: Transfer, offset: number): number | Promise<number> {
    return this.#later(() => {
      transfer.copyIn(this.#data.subarray(offset, offset + transfer.length));
    });
  }

  write(transfer: Transfer, offset: number): number {
    transfer.copyOut(this.#data.subarray(offset, offset + transfer.length));
    return 0;
  }

  flush(): number {
    return 0;
  }

  [Symbol.dispose](): void {}

  /** Each third request takes longer than those after it. */
  #later(move: () => void): Promise<number> {
    const delay = this.#count++ % 3 === 0 ? 6 : 2;
    return new Promise((resolve) => {
      setTimeout(() => {
        move();
        resolve(0);
      }, delay);
    });
  }
}

export default blkDevice({
  name: "slow",
  summary: "Disk that answers later and out of order",
  options: Type.Object({}),
  async: true,
  open: () => new SlowStore(),
});
