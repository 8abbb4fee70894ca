/**
 * userfaultfd(2): memory whose pages come from somebody else when they are touched first. The thread
 * that touches one sleeps in the kernel until then.
 */
import {
  MADV_NOHUGEPAGE,
  O_CLOEXEC,
  O_NONBLOCK,
  SYS_USERFAULTFD,
  UFFD_API,
  UFFD_API_ARGS,
  UFFD_CAN_COPY,
  UFFD_COPY,
  UFFD_EVENT_PAGEFAULT,
  UFFD_FEATURE_MISSING_SHMEM,
  UFFD_MESSAGE,
  UFFD_RANGE,
  UFFDIO_API,
  UFFDIO_COPY,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_UNREGISTER,
  UFFDIO_WAKE,
} from "./abi.ts";
import { EAGAIN, EEXIST, EPERM } from "./errno.ts";
import { Fd } from "./fd.ts";
import { bytes, check, errno, libc, SystemError } from "./libc.ts";

const HOW_TO_PERMIT = "set the sysctl vm.unprivileged_userfaultfd to 1 or give CAP_SYS_PTRACE";

/** A new non-blocking userfaultfd for shared memory. Throws with the reason where there is none. */
export function createUserfault(): Fd {
  const number = libc.syscall(SYS_USERFAULTFD, O_CLOEXEC | O_NONBLOCK);
  if (number < 0) {
    const error = new SystemError("userfaultfd", errno());
    if (error.errno !== EPERM) throw error;
    throw new Error(`${error.message}: ${HOW_TO_PERMIT}`, { cause: error });
  }
  const fd = new Fd(number);
  try {
    const { features } = handshake(fd);
    if ((features & UFFD_FEATURE_MISSING_SHMEM) === 0) {
      throw new Error("The kernel has no userfaultfd for shared memory");
    }
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

function handshake(fd: Fd): { features: number } {
  const args = bytes(UFFD_API_ARGS.size);
  const view = new DataView(args.buffer);
  setU64(view, UFFD_API_ARGS.api, UFFD_API);
  // Asking for no feature by name yields all kinds of memory that the kernel can do.
  check(libc.ioctl(fd.number, UFFDIO_API, args), "ioctl(UFFDIO_API)");
  return { features: view.getUint32(UFFD_API_ARGS.features, true) };
}

/**
 * Makes the first touch of each page of a mapping wait for the page, unless its file has it. The
 * mapping must not have been touched. `address` and `length` are multiples of its page size.
 */
export function awaitPages(fd: Fd, address: number, length: number): void {
  // A huge page that the kernel puts together would bring neighbours that have not come.
  libc.madvise(address, length, MADV_NOHUGEPAGE);
  const { args, view } = range(address, length);
  setU64(view, UFFD_RANGE.mode, UFFDIO_REGISTER_MODE_MISSING);
  check(libc.ioctl(fd.number, UFFDIO_REGISTER, args), "ioctl(UFFDIO_REGISTER)");
  if ((view.getUint32(UFFD_RANGE.ioctls, true) & UFFD_CAN_COPY) === 0) {
    throw new Error("The kernel cannot fill this kind of memory through a userfaultfd");
  }
}

/**
 * Pages that have not come are zeros from now on, and nobody sleeps any longer. Whatever else is
 * mapped there meanwhile stays as it is.
 */
export function endAwaitingPages(fd: Fd, address: number, length: number): void {
  libc.ioctl(fd.number, UFFDIO_UNREGISTER, range(address, length).args);
}

/**
 * Fills pages that nobody has filled yet, at an address of the process that made `fd`, and wakes who
 * waits for them. Returns false when the first one is there already.
 */
export function copyPages(fd: Fd, to: number, from: number, length: number): boolean {
  const args = bytes(UFFD_COPY.size);
  const view = new DataView(args.buffer);
  setU64(view, UFFD_COPY.to, to);
  setU64(view, UFFD_COPY.from, from);
  setU64(view, UFFD_COPY.length, length);
  while (libc.ioctl(fd.number, UFFDIO_COPY, args) < 0) {
    const why = errno();
    if (why === EEXIST) return false;
    // The other process is changing its mappings.
    if (why !== EAGAIN) throw new SystemError("ioctl(UFFDIO_COPY)", why);
  }
  return true;
}

/** Wakes who waits for pages that came by another way. */
export function wakeFaults(fd: Fd, address: number, length: number): void {
  check(libc.ioctl(fd.number, UFFDIO_WAKE, range(address, length).args), "ioctl(UFFDIO_WAKE)");
}

/** The address that somebody touched and waits for, or null when there is none. */
export function readFault(fd: Fd): number | null {
  const message = bytes(UFFD_MESSAGE.size);
  if (libc.read(fd.number, message, message.length) !== message.length) {
    const why = errno();
    if (why === EAGAIN) return null;
    throw new SystemError("read(userfaultfd)", why);
  }
  if (message[UFFD_MESSAGE.event] !== UFFD_EVENT_PAGEFAULT) return null;
  return Number(new DataView(message.buffer).getBigUint64(UFFD_MESSAGE.address, true));
}

function range(address: number, length: number) {
  const args = bytes(UFFD_RANGE.size);
  const view = new DataView(args.buffer);
  setU64(view, UFFD_RANGE.start, address);
  setU64(view, UFFD_RANGE.length, length);
  return { args, view };
}

function setU64(view: DataView, at: number, value: number): void {
  view.setBigUint64(at, BigInt(value), true);
}
