/** Unix stream sockets that carry file descriptors (SCM_RIGHTS). */
import {
  AF_UNIX,
  CMSGHDR,
  IOVEC_SIZE,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSGHDR,
  S_IFMT,
  S_IFSOCK,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOCKADDR_UN,
  SOL_SOCKET,
} from "./abi.ts";
import { EAGAIN, ECONNABORTED, ECONNREFUSED, EINTR } from "./errno.ts";
import { Fd } from "./fd.ts";
import { bytes, check, errno, libc, runtime, SystemError } from "./libc.ts";

/** struct sockaddr_un of a path. Throws when the path does not fit its 107 bytes. */
function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const encoded = new TextEncoder().encode(path);
  if (encoded.length === 0) throw new TypeError("Cannot use an empty socket path");
  if (encoded.length >= SOCKADDR_UN.pathLength) {
    const limit = SOCKADDR_UN.pathLength - 1;
    throw new RangeError(`Cannot use a socket path of more than ${limit} bytes: "${path}"`);
  }
  const address = bytes(SOCKADDR_UN.size);
  new DataView(address.buffer).setUint16(SOCKADDR_UN.family, AF_UNIX, true);
  address.set(encoded, SOCKADDR_UN.path);
  return address;
}

function newSocket(flags = 0): Fd {
  return new Fd(check(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket"));
}

/** Binds and listens. The path must be free (`SystemError` EADDRINUSE otherwise). */
export function listenUnix(path: string, backlog = 16): Fd {
  const address = socketAddress(path);
  const socket = newSocket(SOCK_NONBLOCK);
  try {
    check(libc.bind(socket.number, address, address.length), "bind", path);
    check(libc.listen(socket.number, backlog), "listen", path);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Connects; the result is a blocking socket. */
export function connectUnix(path: string): Fd {
  const address = socketAddress(path);
  const socket = newSocket();
  try {
    check(libc.connect(socket.number, address, address.length), "connect", path);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/**
 * Tells whether a program listens on a socket path, by connecting for a moment. Throws `SystemError`
 * when that cannot be found out: there is no socket, access is denied, or it is of another type.
 */
export function hasListener(path: string): boolean {
  const address = socketAddress(path);
  using socket = newSocket(SOCK_NONBLOCK);
  if (libc.connect(socket.number, address, address.length) === 0) return true;
  const why = errno();
  if (why === ECONNREFUSED) return false;
  // Its backlog is full.
  if (why === EAGAIN) return true;
  throw new SystemError("connect", why, path);
}

/** Accepts one connection of a non-blocking listener, or null when none is waiting. */
export function accept(listener: Fd): Fd | null {
  const number = libc.accept4(listener.number, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (number >= 0) return new Fd(number);
  const why = errno();
  if (why === EAGAIN || why === EINTR || why === ECONNABORTED) return null;
  throw new SystemError("accept4", why);
}

/** Two connected stream sockets. */
export function socketPair(): [Fd, Fd] {
  const pair = bytes(8);
  check(libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
  const numbers = new Int32Array(pair.buffer);
  return [new Fd(numbers[0]!), new Fd(numbers[1]!)];
}

export type SocketKind = "listening" | "connected" | "not a unix stream socket";

/** Tells what a descriptor handed over at start (`--fd`) is. */
export function socketKind(fd: Fd): SocketKind {
  if ((fd.stat().mode & S_IFMT) !== S_IFSOCK) return "not a unix stream socket";
  const option = (name: number): number => {
    const value = new Int32Array(new ArrayBuffer(4));
    const length = new Int32Array(new ArrayBuffer(4)).fill(4);
    check(libc.getsockopt(fd.number, SOL_SOCKET, name, value, length), "getsockopt");
    return value[0]!;
  };
  if (option(SO_DOMAIN) !== AF_UNIX || option(SO_TYPE) !== SOCK_STREAM) {
    return "not a unix stream socket";
  }
  return option(SO_ACCEPTCONN) ? "listening" : "connected";
}

const controlLength = (fds: number) => CMSGHDR.data + ((fds * 4 + 7) & ~7);

/**
 * Message buffers for sendmsg and recvmsg, made once and reused. `data` holds `capacity` bytes; a
 * transfer names the part of it that travels.
 */
export class MessageBuffer {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** Descriptors that the last `receive` delivered. The caller owns them. */
  readonly received: Fd[] = [];
  /** True when the last `receive` lost descriptors (more than fit the control buffer). */
  truncated = false;

  readonly #header = bytes(MSGHDR.size);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #iov = bytes(IOVEC_SIZE);
  readonly #iovView = new DataView(this.#iov.buffer);
  readonly #control = bytes(controlLength(SCM_MAX_FD));
  readonly #controlView = new DataView(this.#control.buffer);
  readonly #dataAddress: number;

  constructor(capacity: number) {
    this.data = bytes(capacity);
    this.view = new DataView(this.data.buffer);
    this.#dataAddress = runtime.addressOf(this.data);
    setU64(this.#headerView, MSGHDR.iov, runtime.addressOf(this.#iov));
    setU64(this.#headerView, MSGHDR.iovlen, 1);
  }

  /**
   * Receives at most `length` bytes to `data[at]`, never blocking. Returns the count, 0 at end of
   * file, -1 when nothing is there yet. Received descriptors are in `received`.
   */
  receive(socket: Fd, at: number, length: number): number {
    this.received.length = 0;
    this.#prepare(at, length, this.#control.length);
    const got = libc.recvmsg(socket.number, this.#header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      const why = errno();
      if (why === EAGAIN || why === EINTR) return -1;
      throw new SystemError("recvmsg", why);
    }
    this.#collect();
    return got;
  }

  /**
   * Sends `length` bytes from `data[at]`, the descriptors with the first of them, without blocking.
   * Returns the count, or -1 when the socket's buffer is full.
   */
  send(socket: Fd, at: number, length: number, fds: readonly number[] = []): number {
    this.#prepare(at, length, fds.length === 0 ? 0 : controlLength(fds.length));
    if (fds.length > 0) {
      setU64(this.#controlView, CMSGHDR.len, CMSGHDR.data + fds.length * 4);
      this.#controlView.setInt32(CMSGHDR.level, SOL_SOCKET, true);
      this.#controlView.setInt32(CMSGHDR.type, SCM_RIGHTS, true);
      fds.forEach((fd, i) => {
        this.#controlView.setInt32(CMSGHDR.data + i * 4, fd, true);
      });
    }
    for (;;) {
      const sent = libc.sendmsg(socket.number, this.#header, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return sent;
      const why = errno();
      if (why === EAGAIN) return -1;
      if (why !== EINTR) throw new SystemError("sendmsg", why);
    }
  }

  #prepare(at: number, length: number, control: number): void {
    setU64(this.#iovView, 0, this.#dataAddress + at);
    setU64(this.#iovView, 8, length);
    setU64(this.#headerView, MSGHDR.control, control ? runtime.addressOf(this.#control) : 0);
    setU64(this.#headerView, MSGHDR.controllen, control);
    this.#headerView.setInt32(MSGHDR.flags, 0, true);
  }

  #collect(): void {
    this.truncated = (this.#headerView.getInt32(MSGHDR.flags, true) & MSG_CTRUNC) !== 0;
    const end = this.#headerView.getUint32(MSGHDR.controllen, true);
    let at = 0;
    while (at + CMSGHDR.size <= end) {
      const length = this.#controlView.getUint32(at + CMSGHDR.len, true);
      if (length < CMSGHDR.size) return;
      const rights =
        this.#controlView.getInt32(at + CMSGHDR.level, true) === SOL_SOCKET &&
        this.#controlView.getInt32(at + CMSGHDR.type, true) === SCM_RIGHTS;
      for (let i = at + CMSGHDR.data; rights && i + 4 <= at + length; i += 4) {
        this.received.push(new Fd(this.#controlView.getInt32(i, true)));
      }
      at += (length + 7) & ~7;
    }
  }
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
