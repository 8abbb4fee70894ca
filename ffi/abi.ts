/**
 * Numbers and struct layouts of the Linux ABI, for x86-64 and arm64 (both little-endian, LP64).
 * From linux/*.h and asm-generic/*.h; offsets in bytes.
 */

if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
  throw new Error("Ringside needs a little-endian machine");
}

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_ACCEPTCONN = 30;
export const SO_DOMAIN = 39;
export const SCM_RIGHTS = 1;
export const MSG_DONTWAIT = 0x40;
export const MSG_CTRUNC = 0x8;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
/** The kernel's own limit of descriptors per message (SCM_MAX_FD). */
export const SCM_MAX_FD = 253;

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_ACCMODE = 3;
export const O_CREAT = 0o100;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_NOATIME = 0o1000000;
export const O_DIRECT = process.arch === "arm64" ? 0o200000 : 0o40000;

export const F_DUPFD_CLOEXEC = 1030;
export const F_GETFD = 1;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
export const F_SEAL_SHRINK = 2;

export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;

export const PR_SET_NO_NEW_PRIVS = 38;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MAP_FAILED = Number(0xffffffffffffffffn);
export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MADV_DONTNEED = 4;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_DONTDUMP = 16;

export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLHUP = 0x10;
export const EPOLLET = 0x80000000;
export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLRDHUP = 0x2000;

/** preadv2: fail with EAGAIN rather than wait. */
export const RWF_NOWAIT = 8;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

export const AT_EMPTY_PATH = 0x1000;
export const STATX_BASIC_STATS = 0x7ff;
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFIFO = 0o010000;

export const BLKGETSIZE64 = 0x80081272;
export const BLKPBSZGET = 0x127b;
export const BLKDISCARD = 0x1277;
export const BLKZEROOUT = 0x127f;

/** ioctl(2) requests of evdev (linux/input.h); those with a length take buffers of that many bytes. */
const evdev = (number: number, length: number): number =>
  (0x8000_4500 | (length << 16) | number) >>> 0;
export const EVIOCGID = evdev(0x02, 8);
export const EVIOCGNAME = (length: number): number => evdev(0x06, length);
export const EVIOCGUNIQ = (length: number): number => evdev(0x08, length);
export const EVIOCGPROP = (length: number): number => evdev(0x09, length);
export const EVIOCGMTSLOTS = (length: number): number => evdev(0x0a, length);
export const EVIOCGKEY = (length: number): number => evdev(0x18, length);
export const EVIOCGSW = (length: number): number => evdev(0x1b, length);
export const EVIOCGBIT = (type: number, length: number): number => evdev(0x20 + type, length);
export const EVIOCGABS = (axis: number): number => evdev(0x40 + axis, 24);
export const EVIOCGRAB = 0x40044590;

export const SYS_USERFAULTFD = process.arch === "arm64" ? 282 : 323;
/** The version of the interface, which UFFDIO_API wants to hear. */
export const UFFD_API = 0xaa;
export const UFFD_FEATURE_MISSING_SHMEM = 0x20;
export const UFFD_EVENT_PAGEFAULT = 0x12;
export const UFFDIO_API = 0xc018aa3f;
export const UFFDIO_REGISTER = 0xc020aa00;
export const UFFDIO_UNREGISTER = 0x8010aa01;
export const UFFDIO_WAKE = 0x8010aa02;
export const UFFDIO_COPY = 0xc028aa03;
export const UFFDIO_REGISTER_MODE_MISSING = 1;
/** The bit of UFFDIO_COPY in `ioctls`: its own number. */
export const UFFD_CAN_COPY = 1 << 3;

/** struct sockaddr_un: family u16@0, path[108]@2. */
export const SOCKADDR_UN = { size: 110, family: 0, path: 2, pathLength: 108 } as const;
/** struct msghdr. */
export const MSGHDR = {
  size: 56,
  name: 0,
  namelen: 8,
  iov: 16,
  iovlen: 24,
  control: 32,
  controllen: 40,
  flags: 48,
} as const;
/** struct cmsghdr: len u64@0, level i32@8, type i32@12, data@16. */
export const CMSGHDR = { size: 16, len: 0, level: 8, type: 12, data: 16 } as const;
/** struct iovec: base u64@0, len u64@8. */
export const IOVEC_SIZE = 16;
/** struct epoll_event, packed on x86-64 only; `data` carries a u32 here. */
export const EPOLL_EVENT =
  process.arch === "arm64"
    ? ({ size: 16, events: 0, data: 8 } as const)
    : ({ size: 12, events: 0, data: 4 } as const);
/** struct uffdio_api. */
export const UFFD_API_ARGS = { size: 24, api: 0, features: 8, ioctls: 16 } as const;
/** struct uffdio_register; UFFDIO_UNREGISTER and UFFDIO_WAKE take its first two fields. */
export const UFFD_RANGE = { size: 32, start: 0, length: 8, mode: 16, ioctls: 24 } as const;
/** struct uffdio_copy. */
export const UFFD_COPY = { size: 40, to: 0, from: 8, length: 16, mode: 24, done: 32 } as const;
/** struct uffd_msg of a page fault. */
export const UFFD_MESSAGE = { size: 32, event: 0, address: 16 } as const;
/** struct pollfd. */
export const POLLFD = { size: 8, fd: 0, events: 4, revents: 6 } as const;
/** struct input_event, and struct input_absinfo of 32-bit integers. */
export const INPUT_EVENT = { size: 24, type: 16, code: 18, value: 20 } as const;
export const INPUT_ABSINFO = {
  size: 24,
  value: 0,
  minimum: 4,
  maximum: 8,
  fuzz: 12,
  flat: 16,
  resolution: 20,
} as const;
/** struct statx (the parts used). */
export const STATX = { size: 256, blksize: 4, mode: 28, fileSize: 40, blocks: 48 } as const;
