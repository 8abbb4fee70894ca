import { type Fd, O_ACCMODE, O_WRONLY, S_IFCHR, S_IFDIR, S_IFREG } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";

/**
 * Checks a descriptor that is to be waited for, and makes reading it non-blocking: another process
 * holds it too and could empty it between our wait and our read. Eventfds, pipes and sockets pass.
 */
export function prepareKick(fd: Fd): void {
  refuseFiles(fd, "kick");
  if ((fd.statusFlags() & O_ACCMODE) === O_WRONLY) {
    throw new ProtocolError("Cannot use the kick descriptor: it is open for writing only");
  }
  fd.setNonBlocking();
}

/** Throws `ProtocolError` for files, directories and devices, which notify nobody. */
export function refuseFiles(fd: Fd, role: string): void {
  const type = fd.fileType();
  if (type === S_IFREG || type === S_IFDIR || type === S_IFCHR) {
    throw new ProtocolError(
      `Cannot use the ${role} descriptor: it is neither an eventfd nor a pipe nor a socket`,
    );
  }
}
