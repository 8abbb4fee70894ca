/** Chooses the store that `--blk-file` names. */
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

const units: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};

/** Reads `64M` as bytes. Throws RangeError for anything that is not a size. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt]?)i?b?$/i.exec(text);
  const size = match === null ? Number.NaN : Number(match[1]) * units[match[2]!.toLowerCase()]!;
  if (!Number.isSafeInteger(size) || size < 512) {
    throw new RangeError(`Cannot read "${text}" as a size: write it as 64M or 1G`);
  }
  return size;
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
