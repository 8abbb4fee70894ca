/** A disk that forgets: writes succeed, reads leave the buffers as they are. For measuring. */
import type { Store } from "../store.ts";

export class NullStore implements Store {
  size: number;
  readonly readOnly: boolean;
  readonly physicalBlockSize = 512;

  constructor(size: number, readOnly: boolean) {
    this.size = size;
    this.readOnly = readOnly;
  }

  read(): number {
    return 0;
  }

  write(): number {
    return 0;
  }

  flush(): number {
    return 0;
  }

  discard(): number {
    return 0;
  }

  writeZeroes(): number {
    return 0;
  }

  [Symbol.dispose](): void {}
}
