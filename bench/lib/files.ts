/** Disk images for benchmarks. */
import { randomFillSync } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { repository } from "../../tests/guest/lab.ts";

const MIB = 2 ** 20;
/** statfs(2) `f_type` of tmpfs. */
const TMPFS_MAGIC = 0x01021994;

/** A folder of its own on tmpfs. Throws when the machine has none at /dev/shm. */
export function memoryFolder(): string {
  if (!existsSync("/dev/shm") || statfsSync("/dev/shm").type !== TMPFS_MAGIC) {
    throw new Error("Cannot find a tmpfs at /dev/shm to keep the benchmark's files in memory");
  }
  return mkdtempSync("/dev/shm/ringside-bench-");
}

/** A folder of its own on the file system of the repository. */
export function diskFolder(): string {
  const cache = join(repository, ".cache");
  mkdirSync(cache, { recursive: true });
  return mkdtempSync(join(cache, "bench-"));
}

export function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/**
 * Writes `size` bytes of random data: holes would be read from one page of zeros. The data is on the disk when
 * this returns, so that nothing is being written back while others measure. `piece`: bytes per write.
 */
export function fillFile(path: string, size: number, piece = 4 * MIB): void {
  const chunk = randomFillSync(new Uint8Array(new ArrayBuffer(4 * MIB)));
  const fd = openSync(path, "w");
  try {
    for (let at = 0; at < size; at += piece) {
      writeSync(fd, chunk, at % (4 * MIB), Math.min(piece, size - at));
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
