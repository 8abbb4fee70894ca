/**
 * The C functions Ringside calls, one row each, with the prototype as its comment.
 *
 * `ArgType` is the neutral vocabulary that `bun.ts` and `deno.ts` translate:
 * - `i32`, `u32`: a JS number, passed in 32 bits.
 * - `i64`, `usize`: a JS number that is an exact integer, passed in 64 bits. Costs Deno a BigInt, so
 *   functions of the data plane declare byte counts as `u32`: the upper half of an argument
 *   register is zero then (tests/ffi/traps.test.ts holds both runtimes to that).
 * - `buffer`: a typed array over an explicit ArrayBuffer (small ones move under Bun otherwise), or null.
 *
 * `ssize_t` results are declared `i32`: Linux transfers at most 0x7ffff000 bytes per call, and an
 * `i64` result would be a BigInt in both runtimes.
 */
export type ArgType = "i32" | "u32" | "i64" | "usize" | "buffer";
export type ResultType = "i32" | "usize";

export interface Signature {
  readonly args: readonly ArgType[];
  readonly result: ResultType;
}

/** A row of a table. */
export function fn<const A extends readonly ArgType[], const R extends ResultType>(
  args: A,
  result: R,
) {
  return { args, result };
}

export const symbols = {
  // int *__errno_location(void)
  __errno_location: fn([], "usize"),

  // long syscall(long number, ...), with one argument
  syscall: fn(["usize", "usize"], "i32"),
  // int prctl(int option, unsigned long, unsigned long, unsigned long, unsigned long)
  prctl: fn(["i32", "usize", "usize", "usize", "usize"], "i32"),

  // int socket(int domain, int type, int protocol)
  socket: fn(["i32", "i32", "i32"], "i32"),
  // int socketpair(int domain, int type, int protocol, int sv[2])
  socketpair: fn(["i32", "i32", "i32", "buffer"], "i32"),
  // int bind(int fd, const struct sockaddr *address, socklen_t length)
  bind: fn(["i32", "buffer", "u32"], "i32"),
  // int listen(int fd, int backlog)
  listen: fn(["i32", "i32"], "i32"),
  // int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
  accept4: fn(["i32", "buffer", "buffer", "i32"], "i32"),
  // int connect(int fd, const struct sockaddr *address, socklen_t length)
  connect: fn(["i32", "buffer", "u32"], "i32"),
  // int shutdown(int fd, int how)
  shutdown: fn(["i32", "i32"], "i32"),
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
  getsockopt: fn(["i32", "i32", "i32", "buffer", "buffer"], "i32"),
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
  setsockopt: fn(["i32", "i32", "i32", "buffer", "u32"], "i32"),
  // ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
  sendmsg: fn(["i32", "buffer", "i32"], "i32"),
  // ssize_t recvmsg(int fd, struct msghdr *message, int flags)
  recvmsg: fn(["i32", "buffer", "i32"], "i32"),

  // int open(const char *path, int flags, mode_t mode)
  open: fn(["buffer", "i32", "u32"], "i32"),
  // int close(int fd)
  close: fn(["i32"], "i32"),
  // int fcntl(int fd, int command, int argument)
  fcntl: fn(["i32", "i32", "i32"], "i32"),
  // int ioctl(int fd, unsigned long request, void *argument)
  ioctl: fn(["i32", "usize", "buffer"], "i32"),
  // int statx(int directory, const char *path, int flags, unsigned mask, struct statx *result)
  statx: fn(["i32", "buffer", "i32", "u32", "buffer"], "i32"),
  // int ftruncate(int fd, off_t length)
  ftruncate: fn(["i32", "i64"], "i32"),
  // int memfd_create(const char *name, unsigned flags)
  memfd_create: fn(["buffer", "u32"], "i32"),

  // ssize_t read(int fd, void *data, size_t count)
  read: fn(["i32", "buffer", "u32"], "i32"),
  // ssize_t write(int fd, const void *data, size_t count)
  write: fn(["i32", "buffer", "u32"], "i32"),
  // ssize_t readv(int fd, const struct iovec *iov, int count)
  readv: fn(["i32", "buffer", "i32"], "i32"),
  // ssize_t writev(int fd, const struct iovec *iov, int count)
  writev: fn(["i32", "buffer", "i32"], "i32"),
  // ssize_t pread(int fd, void *data, size_t count, off_t offset), by address
  pread: fn(["i32", "usize", "u32", "i64"], "i32"),
  // ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
  pwrite: fn(["i32", "usize", "u32", "i64"], "i32"),
  // ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
  preadv: fn(["i32", "buffer", "i32", "i64"], "i32"),
  // ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
  preadv2: fn(["i32", "buffer", "i32", "i64", "i32"], "i32"),
  // ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
  pwritev: fn(["i32", "buffer", "i32", "i64"], "i32"),
  // int fallocate(int fd, int mode, off_t offset, off_t length)
  fallocate: fn(["i32", "i32", "i64", "i64"], "i32"),
  // int fdatasync(int fd)
  fdatasync: fn(["i32"], "i32"),

  // int eventfd(unsigned initial, int flags)
  eventfd: fn(["u32", "i32"], "i32"),
  // int poll(struct pollfd *fds, nfds_t count, int timeout)
  poll: fn(["buffer", "u32", "i32"], "i32"),
  // int epoll_create1(int flags)
  epoll_create1: fn(["i32"], "i32"),
  // int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event)
  epoll_ctl: fn(["i32", "i32", "i32", "buffer"], "i32"),
  // int epoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout)
  epoll_wait: fn(["i32", "buffer", "i32", "i32"], "i32"),

  // void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
  mmap: fn(["usize", "usize", "i32", "i32", "i32", "i64"], "usize"),
  // void *mremap(void *old, size_t old_length, size_t new_length, int flags, void *new)
  mremap: fn(["usize", "usize", "usize", "i32", "usize"], "usize"),
  // void *memcpy(void *to, const void *from, size_t count), whose result nobody needs
  memcpy: fn(["usize", "usize", "u32"], "i32"),
  // void *memset(void *to, int byte, size_t count), whose result nobody needs
  memset: fn(["usize", "i32", "u32"], "i32"),
  // int munmap(void *address, size_t length)
  munmap: fn(["usize", "usize"], "i32"),
  // int madvise(void *address, size_t length, int advice)
  madvise: fn(["usize", "usize", "i32"], "i32"),
} satisfies Record<string, Signature>;

type Arg<T extends ArgType> = T extends "buffer" ? ArrayBufferView | null : number;

type Args<A extends readonly ArgType[]> = { -readonly [I in keyof A]: Arg<A[I]> };

/** Turns a table of signatures into the functions that a runtime makes of it. */
export type Functions<T extends Record<string, Signature>> = {
  readonly [K in keyof T]: (...args: Args<T[K]["args"]>) => number;
};

export type Libc = Functions<typeof symbols>;

/** What a program of one file is made of. Paths are absolute. */
export interface ProgramPlan {
  /** The module that is run. */
  readonly entry: string;
  /** Modules that are loaded by their URL, as those of Workers are. */
  readonly modules: readonly string[];
  /** The folder by which the program names `modules`; see `Runtime.programModules`. */
  readonly root: string;
  /** Files that bare specifiers stand for. */
  readonly specifiers: Readonly<Record<string, string>>;
  readonly output: string;
}

/** A function that C may call, on the thread that made it. */
export interface Callback extends Disposable {
  readonly address: number;
}

/** What a runtime must offer; `bun.ts` and `deno.ts` are the two that do. */
export interface Runtime {
  readonly name: "bun" | "deno";
  /** The runtime's own version, as `1.4.5`. */
  readonly version: string;
  /** Opens a shared library and binds the functions of a table. Throws when either is missing. */
  bind<T extends Record<string, Signature>>(library: string, table: T): Functions<T>;
  /**
   * Lets C call `call`, which gets numbers and must not throw: an exception would skip the frames of C.
   * Keep the result for as long as C has the address. A function without a result is an `i32` here.
   */
  callback(signature: Signature, call: (...args: number[]) => number): Callback;
  /** Wraps memory that JavaScript does not own. The caller keeps it mapped for the view's life. */
  view(address: number, length: number): ArrayBuffer;
  /** The address of a typed array's first byte. Valid while the array is referenced. */
  addressOf(view: ArrayBufferView): number;
  /** Makes `specifier` mean the module at `url`, for every module loaded later, wherever it lies. */
  provide(specifier: string, url: URL): void;
  /**
   * In a program of one file: the URL of the folder that stands for its plan's `root`. Modules below
   * it end in `.js`. Null elsewhere.
   */
  readonly programModules: string | null;
  /** Environment variables that programs of this runtime want to be started with. */
  readonly environment: Readonly<Record<string, string>>;
  /** Makes a program of one file, with the runtime in it. Null where the runtime does not do that. */
  readonly compile: ((plan: ProgramPlan) => Promise<void>) | null;
}
