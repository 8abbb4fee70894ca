/** The descriptor of SET_VRING_KICK: how a driver says that chains are available. */
import {
  acknowledge,
  EPOLLET,
  EPOLLIN,
  type Fd,
  O_ACCMODE,
  O_WRONLY,
  S_IFIFO,
  S_IFSOCK,
} from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import type { Loop, Watch } from "./loop.ts";

/** File types that notify: eventfds have none, pipes and sockets their own. */
const ANONYMOUS = 0;

/** Throws `ProtocolError` for files, directories and devices, which notify nobody. */
export function refuseFiles(fd: Fd, role: string): void {
  const type = fd.fileType();
  if (type !== ANONYMOUS && type !== S_IFIFO && type !== S_IFSOCK) {
    throw new ProtocolError(
      `Cannot use the ${role} descriptor: it is neither an eventfd nor a pipe nor a socket`,
    );
  }
}

/** Throws `ProtocolError` when a descriptor cannot be waited for. */
export function checkKick(fd: Fd): void {
  refuseFiles(fd, "kick");
  if ((fd.statusFlags() & O_ACCMODE) === O_WRONLY) {
    throw new ProtocolError("Cannot use the kick descriptor: it is open for writing only");
  }
}

/**
 * Calls `kicked` with every kick. An eventfd is waited for by its edges and never read: the front-end
 * shares it and could make a read block, and not reading saves a system call per kick. A pipe or a
 * socket would fill up, so it is made non-blocking and read.
 */
export function watchKick(fd: Fd, loop: Loop, kicked: () => void): Watch {
  if (fd.fileType() === ANONYMOUS) {
    return loop.watch(fd.number, EPOLLIN | EPOLLET, kicked);
  }
  fd.setNonBlocking();
  const watch = loop.watch(fd.number, EPOLLIN, () => {
    // A pipe whose other end is gone is readable for ever.
    if (!acknowledge(fd.number)) watch.modify(0);
    kicked();
  });
  return watch;
}
