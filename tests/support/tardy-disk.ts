/**
 * A disk in a file that completes out of order: every third request waits a while before it is carried
 * out. A back-end that is killed then has requests in flight, with completed ones after them.
 */
import { Type } from "typebox";
import { blkDevice, type Store, type StoreResult, type Transfer } from "../../devices/blk/mod.ts";
import { FileStore } from "../../devices/blk/stores/file.ts";

class TardyStore implements Store {
  readonly async = true;
  readonly readOnly = false;
  readonly physicalBlockSize = 4096;
  readonly size: number;
  readonly #file: FileStore;
  readonly #delay: number;
  #count = 0;

  constructor(path: string, delay: number) {
    this.#file = new FileStore({ path, readOnly: false, direct: false, logicalBlockSize: 512 });
    this.size = this.#file.size;
    this.#delay = delay;
  }

  read(transfer: Transfer, offset: number): StoreResult {
    return this.#inTime(() => this.#file.read(transfer, offset));
  }

  write(transfer: Transfer, offset: number): StoreResult {
    return this.#inTime(() => this.#file.write(transfer, offset));
  }

  flush(): StoreResult {
    return this.#inTime(() => this.#file.flush());
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #inTime(carryOut: () => number): StoreResult {
    if (++this.#count % 3 !== 0) return carryOut();
    return new Promise<void>((resolve) => setTimeout(resolve, this.#delay)).then(carryOut);
  }
}

export default blkDevice({
  name: "tardy",
  summary: "Disk in a file that completes every third request late",
  options: Type.Object({
    blkFile: Type.String({ placeholder: "PATH", description: "The file" }),
    delay: Type.Integer({ default: 30, minimum: 0, description: "Milliseconds to wait" }),
  }),
  async: true,
  open: ({ blkFile, delay }) => new TardyStore(blkFile, delay),
});
