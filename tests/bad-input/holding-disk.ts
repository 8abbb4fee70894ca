/**
 * A disk in memory that keeps some requests: those to its second half wait for the next flush,
 * which any queue may send, or a while. It shows what happens to requests in flight.
 */
import { Type } from "typebox";
import { blkDevice, type StoreResult } from "../../devices/blk/mod.ts";
import { LateStore } from "../support/late-store.ts";

/** Bytes of the disk; requests from the middle on are held. */
export const HOLDING_SIZE = 1024 * 1024;
/** How long a request is held when no flush comes, in milliseconds. */
export const HOLD_LIMIT = 1000;

class HoldingStore extends LateStore {
  #held: (() => void)[] = [];

  protected override inTime(carryOut: () => number, offset: number): StoreResult {
    if (offset < HOLDING_SIZE / 2) return carryOut();
    return new Promise<void>((resolve) => {
      this.#held.push(resolve);
      setTimeout(resolve, HOLD_LIMIT);
    }).then(carryOut);
  }

  override flush(): number {
    for (const release of this.#held.splice(0)) release();
    return 0;
  }

  override [Symbol.dispose](): void {
    this.flush();
  }
}

export default blkDevice({
  name: "holding",
  summary: "Disk that holds requests until the next flush",
  options: Type.Object({}),
  async: true,
  open: () => new HoldingStore(HOLDING_SIZE),
});
