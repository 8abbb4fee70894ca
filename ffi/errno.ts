/** Linux error numbers (asm-generic/errno*.h; the same on x86-64 and arm64) and their texts. */

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EAGAIN = 11;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EROFS = 30;
export const ENOSYS = 38;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const ECONNABORTED = 103;
export const ECONNREFUSED = 111;

const table: Readonly<Record<number, readonly [code: string, text: string]>> = {
  1: ["EPERM", "operation not permitted"],
  2: ["ENOENT", "no such file or directory"],
  4: ["EINTR", "interrupted by a signal"],
  5: ["EIO", "input/output error"],
  6: ["ENXIO", "no such device or address"],
  9: ["EBADF", "not an open file descriptor"],
  11: ["EAGAIN", "would block"],
  12: ["ENOMEM", "out of memory or mappings"],
  13: ["EACCES", "permission denied"],
  14: ["EFAULT", "bad address"],
  16: ["EBUSY", "device or resource busy"],
  17: ["EEXIST", "file exists"],
  19: ["ENODEV", "no such device"],
  20: ["ENOTDIR", "not a directory"],
  21: ["EISDIR", "is a directory"],
  22: ["EINVAL", "invalid argument"],
  23: ["ENFILE", "too many open files in the system"],
  24: ["EMFILE", "too many open files in this process"],
  25: ["ENOTTY", "not a device that knows this ioctl"],
  26: ["ETXTBSY", "text file busy"],
  27: ["EFBIG", "file too large"],
  28: ["ENOSPC", "no space left on device"],
  29: ["ESPIPE", "not seekable"],
  30: ["EROFS", "read-only file system"],
  32: ["EPIPE", "the other side is closed"],
  36: ["ENAMETOOLONG", "name too long"],
  38: ["ENOSYS", "system call not available"],
  40: ["ELOOP", "too many symbolic links"],
  75: ["EOVERFLOW", "value too large"],
  88: ["ENOTSOCK", "not a socket"],
  90: ["EMSGSIZE", "message too long"],
  91: ["EPROTOTYPE", "a socket of another type"],
  95: ["EOPNOTSUPP", "operation not supported"],
  98: ["EADDRINUSE", "address in use"],
  103: ["ECONNABORTED", "connection aborted"],
  104: ["ECONNRESET", "connection reset by the other side"],
  106: ["EISCONN", "already connected"],
  107: ["ENOTCONN", "not connected"],
  110: ["ETIMEDOUT", "timed out"],
  111: ["ECONNREFUSED", "connection refused"],
};

/** The symbolic name of an error number, `errno 200` for one that is not listed. */
export function errnoCode(number: number): string {
  return table[number]?.[0] ?? `errno ${number}`;
}

/** A lower-case description of an error number. */
export function errnoText(number: number): string {
  return table[number]?.[1] ?? "system error";
}
