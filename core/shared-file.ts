/** Memory that a front-end shares as a file: guest memory, dirty logs, in-flight regions. */
import {
  F_ADD_SEALS,
  F_SEAL_SHRINK,
  type Fd,
  libc,
  Mapping,
  PAGE_SIZE,
  S_IFMT,
  S_IFREG,
} from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";

/** Files with blocks of this size or more are made of huge pages, which map at their boundaries. */
const HUGE_PAGE = 2 ** 21;

export interface SharedFile {
  readonly mapping: Mapping;
  /** Bytes of the mapping before the part that was asked for. */
  readonly skip: number;
}

/**
 * Maps `size` bytes from `offset` on and keeps the file from shrinking where it allows that. Does not
 * take `fd`. `what` names the part in errors. Throws `ProtocolError` when the file is too small or no
 * memory, `SystemError` when it cannot be mapped.
 */
export function mapSharedFile(what: string, fd: Fd, offset: number, size: number): SharedFile {
  // Sealed first: whatever is measured afterwards stays. Only memfds can be sealed.
  libc.fcntl(fd.number, F_ADD_SEALS, F_SEAL_SHRINK);
  const status = fd.stat();
  if ((status.mode & S_IFMT) !== S_IFREG) {
    throw new ProtocolError(`Cannot map ${what}: its descriptor is no file of memory`);
  }
  if (offset + size > status.size) {
    throw new ProtocolError(
      `Cannot map ${what} of ${size} bytes at offset ${offset}: the file has ${status.size}`,
    );
  }
  const alignment = status.blockSize >= HUGE_PAGE ? status.blockSize : PAGE_SIZE;
  const skip = offset % alignment;
  return { mapping: new Mapping(fd, size + skip, offset - skip, alignment), skip };
}
