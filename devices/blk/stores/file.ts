/** Blocks in a file or a block device, moved between it and guest memory by the kernel. */
import {
  BLKDISCARD,
  BLKGETSIZE64,
  BLKPBSZGET,
  BLKZEROOUT,
  bytes,
  check,
  EINTR,
  EINVAL,
  EIO,
  EOPNOTSUPP,
  EPERM,
  errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Fd,
  Iovecs,
  libc,
  O_DIRECT,
  O_NOATIME,
  O_RDONLY,
  O_RDWR,
  openFile,
  S_IFBLK,
  S_IFDIR,
  S_IFREG,
  SystemError,
} from "../../../ffi/mod.ts";
import type { Background } from "../background.ts";
import type { Store, Transfer } from "../store.ts";

export interface FileStoreOptions {
  readonly path: string;
  readonly readOnly: boolean;
  /** Bypass the page cache (O_DIRECT). */
  readonly direct: boolean;
  /** The smallest request there will be, in bytes. */
  readonly logicalBlockSize: number;
}

/** Bytes moved per call where data goes through a buffer of ours. */
const BOUNCE_SIZE = 1024 * 1024;
/** The strictest alignment O_DIRECT asks for. */
const DIRECT_ALIGNMENT = 4096;

const ZERO_RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

/** Opens without keeping track of accesses, which costs each read some time, where that is allowed. */
function openDisk(path: string, flags: number): Fd {
  try {
    return openFile(path, flags | O_NOATIME);
  } catch (error) {
    // Only the owner may leave a file's access time alone.
    if (error instanceof SystemError && error.errno === EPERM) return openFile(path, flags);
    throw error;
  }
}

export class FileStore implements Store {
  readonly readOnly: boolean;
  readonly physicalBlockSize: number;
  size: number;
  readonly fd: Fd;
  /** A block device, not a file. */
  readonly isDevice: boolean;
  /** Past the page cache. */
  readonly direct: boolean;
  /** What would wait for the disk can be left to this. */
  background: Background | null = null;
  readonly #iovecs = new Iovecs();
  #bounce: Uint8Array<ArrayBuffer> | null = null;
  /** The file system can make a range zeros by itself. */
  canZeroRange = true;

  /** Throws `SystemError` when the path cannot be opened, `Error` when it holds no blocks. */
  constructor({ path, readOnly, direct, logicalBlockSize }: FileStoreOptions) {
    const access = readOnly ? O_RDONLY : O_RDWR;
    this.readOnly = readOnly;
    this.direct = direct;
    this.fd = openDisk(path, access | (direct ? O_DIRECT : 0));
    try {
      const type = this.fd.fileType();
      if (type !== S_IFREG && type !== S_IFBLK) {
        const what = type === S_IFDIR ? "a directory" : "neither a file nor a block device";
        throw new Error(`Cannot use "${path}" as a disk: it is ${what}`);
      }
      this.isDevice = type === S_IFBLK;
      this.physicalBlockSize = this.isDevice ? this.#devicePhysicalBlock() : 4096;
      this.size = this.measure();
      if (direct) this.#checkDirect(path, logicalBlockSize);
    } catch (error) {
      this.fd.close();
      throw error;
    }
  }

  measure(): number {
    if (!this.isDevice) return this.fd.stat().size;
    const result = bytes(8);
    check(libc.ioctl(this.fd.number, BLKGETSIZE64, result), "ioctl(BLKGETSIZE64)");
    return Number(new BigUint64Array(result.buffer)[0]);
  }

  read(transfer: Transfer, offset: number): number {
    return this.#move(transfer, offset, false);
  }

  write(transfer: Transfer, offset: number): number {
    return this.#move(transfer, offset, true);
  }

  flush(): number {
    return libc.fdatasync(this.fd.number) < 0 ? -errno() : 0;
  }

  /** Discarding is advice: storage that cannot be freed is no error. */
  discard(offset: number, length: number): number {
    const error = this.isDevice
      ? this.#deviceRange(BLKDISCARD, offset, length)
      : this.#allocate(PUNCH_HOLE, offset, length);
    return error === -EOPNOTSUPP ? 0 : error;
  }

  writeZeroes(offset: number, length: number, unmap: boolean): number {
    if (this.isDevice) return this.#deviceRange(BLKZEROOUT, offset, length);
    if (unmap) {
      const error = this.#allocate(PUNCH_HOLE, offset, length);
      if (error !== -EOPNOTSUPP) return error;
    }
    if (this.canZeroRange) {
      const error = this.#allocate(ZERO_RANGE, offset, length);
      if (error !== -EOPNOTSUPP) return error;
      this.canZeroRange = false;
    }
    return this.#writeZeroBytes(offset, length);
  }

  [Symbol.dispose](): void {
    this.background?.[Symbol.dispose]();
    this.fd.close();
  }

  #move(transfer: Transfer, offset: number, write: boolean): number {
    const iovecs = this.#iovecs;
    const { length } = transfer;
    let done = 0;
    while (done < length) {
      iovecs.clear();
      transfer.iovecs(iovecs, done);
      const moved = this.#call(offset + done, write);
      if (moved > 0) done += moved;
      // The file ends before the disk does: somebody shortened it.
      else if (moved === 0) return -EIO;
      else {
        const why = errno();
        // O_DIRECT refuses guest buffers that are not aligned to the device's blocks.
        if (why === EINVAL) return this.#bounced(transfer, offset, done, write);
        if (why !== EINTR) return -why;
      }
    }
    return 0;
  }

  /** Moves what `#iovecs` names. A single buffer goes by its address: there is no table to copy and check. */
  #call(offset: number, write: boolean): number {
    const iovecs = this.#iovecs;
    const { words, count } = iovecs;
    const { number } = this.fd;
    if (count !== 1) {
      return write
        ? libc.pwritev(number, words, count, offset)
        : libc.preadv(number, words, count, offset);
    }
    const address = iovecs.address(0);
    const length = words[2]!;
    return write
      ? libc.pwrite(number, address, length, offset)
      : libc.pread(number, address, length, offset);
  }

  /** Moves the rest of a transfer through an aligned buffer. */
  #bounced(transfer: Transfer, offset: number, from: number, write: boolean): number {
    const buffer = this.#bounceBuffer();
    const iovecs = this.#iovecs;
    let done = from;
    while (done < transfer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, transfer.length - done));
      iovecs.clear();
      iovecs.pushView(part);
      if (write) transfer.copyOut(part, done);
      const moved = this.#call(offset + done, write);
      if (moved < 0) {
        const why = errno();
        if (why === EINTR) continue;
        return -why;
      }
      if (moved === 0) return -EIO;
      if (!write) transfer.copyIn(part.subarray(0, moved), done);
      done += moved;
    }
    return 0;
  }

  /** O_DIRECT wants offsets aligned to the storage's own blocks; only trying tells which those are. */
  #checkDirect(path: string, logicalBlockSize: number): void {
    const iovecs = new Iovecs(1);
    iovecs.pushView(this.#bounceBuffer().subarray(0, logicalBlockSize));
    const moved = libc.preadv(this.fd.number, iovecs.words, 1, logicalBlockSize);
    if (moved >= 0 || errno() !== EINVAL) return;
    throw new Error(
      `Cannot use --direct on "${path}" with --logical-block-size=${logicalBlockSize}: ` +
        "its storage has larger blocks, try 4096",
    );
  }

  #bounceBuffer(): Uint8Array<ArrayBuffer> {
    if (this.#bounce !== null) return this.#bounce;
    const whole = bytes(BOUNCE_SIZE + DIRECT_ALIGNMENT);
    const probe = new Iovecs(1);
    probe.pushView(whole);
    const skip = (DIRECT_ALIGNMENT - (probe.words[0]! % DIRECT_ALIGNMENT)) % DIRECT_ALIGNMENT;
    this.#bounce = whole.subarray(skip, skip + BOUNCE_SIZE);
    return this.#bounce;
  }

  #writeZeroBytes(offset: number, length: number): number {
    const zeros = this.#bounceBuffer();
    zeros.fill(0);
    const iovecs = this.#iovecs;
    for (let done = 0; done < length; ) {
      iovecs.clear();
      iovecs.pushView(zeros.subarray(0, Math.min(zeros.length, length - done)));
      const moved = libc.pwritev(this.fd.number, iovecs.words, 1, offset + done);
      if (moved >= 0) done += moved;
      else {
        const why = errno();
        if (why !== EINTR) return -why;
      }
    }
    return 0;
  }

  #allocate(mode: number, offset: number, length: number): number {
    for (;;) {
      if (libc.fallocate(this.fd.number, mode, offset, length) >= 0) return 0;
      const why = errno();
      if (why !== EINTR) return -why;
    }
  }

  #deviceRange(request: number, offset: number, length: number): number {
    const range = new BigUint64Array([BigInt(offset), BigInt(length)]);
    return libc.ioctl(this.fd.number, request, range) < 0 ? -errno() : 0;
  }

  #devicePhysicalBlock(): number {
    const result = bytes(4);
    check(libc.ioctl(this.fd.number, BLKPBSZGET, result), "ioctl(BLKPBSZGET)");
    return new Uint32Array(result.buffer)[0]!;
  }
}
