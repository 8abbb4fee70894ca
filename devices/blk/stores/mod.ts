/** Chooses the store that `--blk-file` names. */
import { parseSize } from "../../size.ts";
import type { Store } from "../store.ts";
import { FileStore } from "./file.ts";
import { NullStore } from "./null.ts";
import { RamStore } from "./ram.ts";

export interface StoreOptions {
  readonly blkFile: string;
  readonly readOnly: boolean;
  readonly direct: boolean;
  readonly logicalBlockSize: number;
}

/**
 * Opens `PATH`, `ram:SIZE` or `null:SIZE`. A file whose name looks like one of the latter is
 * reached by `./ram:1G`.
 */
export function openStore(options: StoreOptions): Store {
  const { blkFile, readOnly, direct, logicalBlockSize } = options;
  const [, kind, size] = /^(ram|null):(.*)$/.exec(blkFile) ?? [];
  if (kind === undefined) {
    return new FileStore({ path: blkFile, readOnly, direct, logicalBlockSize });
  }
  if (direct) throw new Error(`Cannot use --direct with "${blkFile}": there is no file`);
  const bytes = parseSize(size!);
  return kind === "ram" ? new RamStore(bytes, readOnly) : new NullStore(bytes, readOnly);
}
