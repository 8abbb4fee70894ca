import {
  AT_EMPTY_PATH,
  F_DUPFD_CLOEXEC,
  F_GETFL,
  F_SETFL,
  O_CLOEXEC,
  O_NONBLOCK,
  S_IFMT,
  STATX,
  STATX_BASIC_STATS,
} from "./abi.ts";
import { EINTR } from "./errno.ts";
import { bytes, check, cString, errno, libc, SystemError } from "./libc.ts";

const emptyPath = cString("");

/** What `Fd.stat` reports; sizes in bytes, `mode` as in stat(2). */
export interface FileStatus {
  readonly mode: number;
  readonly size: number;
  readonly blockSize: number;
  /** Bytes of storage in use (st_blocks times 512). */
  readonly allocated: number;
}

/**
 * An owned file descriptor. Closing is idempotent, so that error paths and `using` may overlap.
 * All descriptors made or received here are close-on-exec.
 */
export class Fd implements Disposable {
  #number: number;

  constructor(number: number) {
    this.#number = number;
  }

  /** The descriptor's number, for system calls. -1 once closed, which every call refuses. */
  get number(): number {
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  close(): void {
    const number = this.#number;
    this.#number = -1;
    if (number >= 0) libc.close(number);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Another descriptor of the same open file. */
  duplicate(): Fd {
    return new Fd(check(libc.fcntl(this.#number, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)"));
  }

  /** The open file's status flags (O_ACCMODE, O_NONBLOCK, ...). */
  statusFlags(): number {
    return check(libc.fcntl(this.#number, F_GETFL, 0), "fcntl(F_GETFL)");
  }

  /** Sets O_NONBLOCK on the open file, which whoever passed the descriptor shares. */
  setNonBlocking(): void {
    const flags = this.statusFlags();
    if (flags & O_NONBLOCK) return;
    check(libc.fcntl(this.#number, F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)");
  }

  stat(): FileStatus {
    const result = bytes(STATX.size);
    const status = libc.statx(this.#number, emptyPath, AT_EMPTY_PATH, STATX_BASIC_STATS, result);
    check(status, "statx");
    const view = new DataView(result.buffer);
    return {
      mode: view.getUint16(STATX.mode, true),
      size: Number(view.getBigUint64(STATX.fileSize, true)),
      blockSize: view.getUint32(STATX.blksize, true),
      allocated: Number(view.getBigUint64(STATX.blocks, true)) * 512,
    };
  }

  /** The file type bits of `stat().mode`, to compare with S_IFREG and its like. */
  fileType(): number {
    return this.stat().mode & S_IFMT;
  }
}

/** Opens a path. `flags` without O_CLOEXEC, which is always set. */
export function openFile(path: string, flags: number, mode = 0o666): Fd {
  for (;;) {
    const number = libc.open(cString(path), flags | O_CLOEXEC, mode);
    if (number >= 0) return new Fd(number);
    const why = errno();
    if (why !== EINTR) throw new SystemError("open", why, path);
  }
}
