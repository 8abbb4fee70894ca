/** `--socket-path` and `--fd`: where the front-end comes from. */
import { EBADF, Fd, type SocketKind, SystemError, socketKind } from "../ffi/mod.ts";

export { type BoundSocket, bindSocket } from "../core/bind-socket.ts";

export interface InheritedSocket {
  readonly fd: Fd;
  readonly kind: Exclude<SocketKind, "not a unix stream socket">;
}

/** Takes over the socket that the parent left open as descriptor `number`. */
export function inheritSocket(number: number): InheritedSocket {
  const fd = new Fd(number);
  try {
    const kind = socketKind(fd);
    if (kind !== "not a unix stream socket") {
      // The duplicate is close-on-exec, which the inherited descriptor cannot be.
      const own = fd.duplicate();
      fd.close();
      return { fd: own, kind };
    }
  } catch (error) {
    if (error instanceof SystemError && error.errno === EBADF) {
      throw new Error(`Cannot use --fd=${number}: no such descriptor was passed`, { cause: error });
    }
    throw error;
  }
  throw new Error(`Cannot use --fd=${number}: it is not a Unix stream socket`);
}
