import { bytes, type Fd, libc, O_ACCMODE, O_RDONLY, POLLFD, POLLOUT, signal } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { refuseFiles } from "./kick.ts";

// One for all: a session has hundreds of notifiers, most of them without a descriptor.
const request = bytes(POLLFD.size);
const view = new DataView(request.buffer);
view.setInt16(POLLFD.events, POLLOUT, true);

/**
 * Notifies the front-end through the descriptor of SET_VRING_CALL or SET_VRING_ERR, without blocking.
 *
 * The front-end shares that descriptor: it may rely on it being a blocking one, and change its flags
 * at any time. So they stay as they are, and poll(2) tells before each write whether it would block;
 * one that would is signalled already.
 */
export class Notifier {
  readonly #role: string;
  readonly #inBand: () => void;
  #fd: Fd | null = null;

  /**
   * `role` names the descriptor in errors, as `call`. `inBand` notifies without one, where that was
   * agreed on.
   */
  constructor(role: string, inBand: () => void = () => {}) {
    this.#role = role;
    this.#inBand = inBand;
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
    }
    this.#fd?.close();
    this.#fd = fd;
  }

  send(): void {
    if (this.#fd === null) return this.#inBand();
    view.setInt32(POLLFD.fd, this.#fd.number, true);
    libc.poll(request, 1, 0);
    if ((view.getInt16(POLLFD.revents, true) & POLLOUT) !== 0) signal(this.#fd.number);
  }
}
