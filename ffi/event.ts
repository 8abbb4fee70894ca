/** eventfd and epoll. */
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLL_EVENT,
  POLLFD,
  POLLIN,
  POLLRDHUP,
} from "./abi.ts";
import { EAGAIN, EINTR } from "./errno.ts";
import { Fd } from "./fd.ts";
import { bytes, check, errno, libc, SystemError } from "./libc.ts";

const one = bytes(8);
one[0] = 1;
// Large enough to empty what a front-end could have queued in a pipe used as a kick.
const drainBuffer = bytes(4096);

/** A new non-blocking eventfd with counter 0. */
export function createEventFd(): Fd {
  return new Fd(check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
}

/**
 * Signals an eventfd or a pipe with one 8-byte write. Never throws: a full counter or pipe is
 * signalled already, and any other failure concerns only the side that passed the descriptor.
 */
export function signal(fd: number): void {
  libc.write(fd, one, 8);
}

/**
 * Takes the pending signals off a non-blocking eventfd or pipe.
 * Returns false when the descriptor is at end of file or broken and must no longer be watched.
 */
export function acknowledge(fd: number): boolean {
  const got = libc.read(fd, drainBuffer, 4096);
  if (got > 0) return true;
  if (got === 0) return false;
  const why = errno();
  return why === EAGAIN || why === EINTR;
}

/** Waits at most `timeout` milliseconds until a descriptor is readable. By number: for Workers. */
export function readable(number: number, timeout: number): boolean {
  const request = bytes(POLLFD.size);
  ask(request, 0, number, POLLIN);
  return libc.poll(request, 1, timeout) > 0;
}

/** Waits until the peer of a socket is gone (true) or `stop` is readable (false). For Workers. */
export function hungUp(socket: number, stop: number): boolean {
  const request = bytes(2 * POLLFD.size);
  ask(request, 0, socket, POLLRDHUP);
  ask(request, 1, stop, POLLIN);
  while (libc.poll(request, 2, -1) < 0);
  const view = new DataView(request.buffer);
  return view.getInt16(POLLFD.size + POLLFD.revents, true) === 0;
}

function ask(request: Uint8Array<ArrayBuffer>, index: number, fd: number, events: number): void {
  const view = new DataView(request.buffer);
  view.setInt32(index * POLLFD.size + POLLFD.fd, fd, true);
  view.setInt16(index * POLLFD.size + POLLFD.events, events, true);
}

/** An epoll instance whose events carry a caller-chosen u32 token. */
export class Poller implements Disposable {
  readonly fd: Fd = new Fd(check(libc.epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
  readonly #request = bytes(EPOLL_EVENT.size);
  readonly #requestView = new DataView(this.#request.buffer);
  readonly #events: Uint8Array<ArrayBuffer>;
  readonly #eventsView: DataView;
  readonly #capacity: number;

  constructor(capacity = 64) {
    this.#capacity = capacity;
    this.#events = bytes(capacity * EPOLL_EVENT.size);
    this.#eventsView = new DataView(this.#events.buffer);
  }

  /** Throws `SystemError` EPERM for a file that cannot be polled (a regular file, a directory). */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token);
  }

  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  /** Must precede closing: an open file that another process shares would keep on reporting. */
  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /**
   * Waits for events, at most `timeout` milliseconds (-1: no limit). Returns their number, or
   * `-EINTR` when a signal came.
   */
  wait(timeout: number): number {
    const count = libc.epoll_wait(this.fd.number, this.#events, this.#capacity, timeout);
    if (count >= 0) return count;
    const why = errno();
    if (why === EINTR) return -EINTR;
    throw new SystemError("epoll_wait", why);
  }

  /** The token of event `i` of the last `wait`. */
  token(i: number): number {
    return this.#eventsView.getUint32(i * EPOLL_EVENT.size + EPOLL_EVENT.data, true);
  }

  /** The EPOLLIN/OUT/ERR/HUP bits of event `i` of the last `wait`. */
  events(i: number): number {
    return this.#eventsView.getUint32(i * EPOLL_EVENT.size + EPOLL_EVENT.events, true);
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }

  #control(operation: number, fd: number, events: number, token: number): void {
    this.#requestView.setUint32(EPOLL_EVENT.events, events, true);
    this.#requestView.setUint32(EPOLL_EVENT.data, token, true);
    check(libc.epoll_ctl(this.fd.number, operation, fd, this.#request), "epoll_ctl");
  }
}
