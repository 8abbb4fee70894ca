import {
  bytes,
  type Fd,
  libc,
  O_ACCMODE,
  O_NONBLOCK,
  O_RDONLY,
  POLLFD,
  POLLOUT,
  signal,
} from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { refuseFiles } from "./kick.ts";

/**
 * Notifies the front-end through the descriptor of SET_VRING_CALL or SET_VRING_ERR, without ever
 * blocking.
 *
 * The front-end reads that descriptor and may rely on it being a blocking one, so its flags stay as
 * they are: before each write to a blocking one, poll(2) tells whether it would block. One that
 * would is signalled already.
 */
export class Notifier {
  readonly #role: string;
  #fd: Fd | null = null;
  #blocking = false;
  readonly #request = bytes(POLLFD.size);
  readonly #view = new DataView(this.#request.buffer);

  /** `role` names the descriptor in errors, as `call`. */
  constructor(role: string) {
    this.#role = role;
  }

  /** Takes `fd`. The old descriptor stays in use when the new one is refused. */
  replace(fd: Fd | null): void {
    if (fd !== null) {
      refuseFiles(fd, this.#role);
      const flags = fd.statusFlags();
      if ((flags & O_ACCMODE) === O_RDONLY) {
        throw new ProtocolError(
          `Cannot use the ${this.#role} descriptor: it is open for reading only`,
        );
      }
      this.#blocking = (flags & O_NONBLOCK) === 0;
      this.#view.setInt32(POLLFD.fd, fd.number, true);
      this.#view.setInt16(POLLFD.events, POLLOUT, true);
    }
    this.#fd?.close();
    this.#fd = fd;
  }

  send(): void {
    if (this.#fd === null) return;
    if (this.#blocking) {
      libc.poll(this.#request, 1, 0);
      if ((this.#view.getInt16(POLLFD.revents, true) & POLLOUT) === 0) return;
    }
    signal(this.#fd.number);
  }
}
