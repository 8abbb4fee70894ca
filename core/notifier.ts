import { bytes, type Fd, libc, O_ACCMODE, O_RDONLY, POLLFD, POLLOUT, signal } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { refuseFiles } from "./kick.ts";

/**
 * Notifies the front-end through the descriptor of SET_VRING_CALL or SET_VRING_ERR, without blocking.
 *
 * The front-end shares that descriptor: it may rely on it being a blocking one, and change its flags
 * at any time. So they stay as they are, and poll(2) tells before each write whether it would block;
 * one that would is signalled already.
 */
export class Notifier {
  readonly #role: string;
  #fd: Fd | null = null;
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
      if ((fd.statusFlags() & O_ACCMODE) === O_RDONLY) {
        throw new ProtocolError(
          `Cannot use the ${this.#role} descriptor: it is open for reading only`,
        );
      }
      this.#view.setInt32(POLLFD.fd, fd.number, true);
      this.#view.setInt16(POLLFD.events, POLLOUT, true);
    }
    this.#fd?.close();
    this.#fd = fd;
  }

  send(): void {
    if (this.#fd === null) return;
    libc.poll(this.#request, 1, 0);
    if ((this.#view.getInt16(POLLFD.revents, true) & POLLOUT) !== 0) signal(this.#fd.number);
  }
}
