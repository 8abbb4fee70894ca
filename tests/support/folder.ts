/** A temporary folder outside the repository, with disk images if wanted. */
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export class Folder implements Disposable {
  readonly path: string;

  constructor(parent: string = tmpdir()) {
    this.path = mkdtempSync(join(parent, "ringside-"));
  }

  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** Writes a file, with the folders above it. Returns its path. */
  write(name: string, text: string, mode = 0o644): string {
    const path = this.at(name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode });
    return path;
  }

  /** A sparse file of `size` bytes. */
  image(size: number, name = "disk.img"): string {
    const path = this.at(name);
    writeFileSync(path, "");
    truncateSync(path, size);
    return path;
  }

  /** Part of a file. */
  read(name: string, at = 0, length?: number): Uint8Array {
    const bytes = readFileSync(this.at(name));
    return new Uint8Array(bytes.subarray(at, length === undefined ? undefined : at + length));
  }

  /** Bytes of storage that a file takes. */
  allocated(name: string): number {
    return statSync(this.at(name)).blocks * 512;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
