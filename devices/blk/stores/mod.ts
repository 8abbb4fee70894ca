/** Chooses the store that `--blk-file` names. */
import type { Host } from "../../../core/device.ts";
import { SystemError } from "../../../ffi/mod.ts";
import { parseSize } from "../../size.ts";
import type { Store } from "../store.ts";
import { FileStore } from "./file.ts";
import { FileBackground } from "./file-background.ts";
import { NullStore } from "./null.ts";
import { RamStore } from "./ram.ts";

export interface StoreOptions {
  readonly blkFile: string;
  readonly readOnly: boolean;
  readonly direct: boolean;
  readonly logicalBlockSize: number;
  /** How a file's data is moved: by system calls of the loop, by io_uring, or by what suits it. */
  readonly aio: "auto" | "preadv" | "io_uring";
}

/** What a file store asks of its host. */
type StoreHost = Pick<Host, "watch" | "every" | "log">;

/**
 * Opens `PATH`, `ram:SIZE` or `null:SIZE`. A file whose name looks like one of the latter is
 * reached by `./ram:1G`.
 */
export function openStore(options: StoreOptions, host: StoreHost): Store {
  const { blkFile, readOnly, direct, logicalBlockSize } = options;
  const [, kind, size] = /^(ram|null):(.*)$/.exec(blkFile) ?? [];
  if (kind === undefined) {
    const store = new FileStore({ path: blkFile, readOnly, direct, logicalBlockSize });
    try {
      if (options.aio !== "preadv") openBackground(store, options.aio, host);
      return store;
    } catch (error) {
      store[Symbol.dispose]();
      throw error;
    }
  }
  if (options.aio === "io_uring") {
    throw new Error(`Cannot use --aio=io_uring with "${blkFile}": there is no file`);
  }
  if (direct) throw new Error(`Cannot use --direct with "${blkFile}": there is no file`);
  const bytes = parseSize(size!);
  return kind === "ram" ? new RamStore(bytes, readOnly) : new NullStore(bytes, readOnly);
}

/** Without io_uring, a store serves one request after another, and each waits for the disk. */
function openBackground(
  store: FileStore,
  aio: "auto" | "io_uring",
  { watch, every, log }: StoreHost,
) {
  try {
    store.background = new FileBackground(store, { watch, every }, aio === "io_uring");
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (aio === "io_uring") throw new Error(`Cannot use --aio=io_uring: ${error.message}`);
    log.info("There is no io_uring: requests wait for the disk one after another", {
      reason: error.message,
    });
  }
}
