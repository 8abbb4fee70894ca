/** A disk in memory that answers later and out of order: there are always requests in flight. */
import { Type } from "typebox";
import { blkDevice, type StoreResult } from "../../devices/blk/mod.ts";
import { LateStore } from "../support/late-store.ts";

const SIZE = 1024 * 1024;

class SlowStore extends LateStore {
  #count = 0;

  /** Each third request takes longer than those after it. */
  protected override inTime(carryOut: () => number): StoreResult {
    const delay = this.#count++ % 3 === 0 ? 6 : 2;
    return new Promise<void>((resolve) => setTimeout(resolve, delay)).then(carryOut);
  }
}

export default blkDevice({
  name: "slow",
  summary: "Disk that answers later and out of order",
  options: Type.Object({}),
  async: true,
  open: () => new SlowStore(SIZE),
});
