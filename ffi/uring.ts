/**
 * io_uring without a library: a submission ring that is filled in memory and handed over by one system
 * call, and a completion ring. An eventfd for epoll tells of completions.
 *
 * The kernel would post completions by interrupting whatever system call the thread is in: epoll_wait
 * would seem to end for a signal each time. With DEFER_TASKRUN (Linux 6.1) they wait until we ask.
 *
 * Numbers and layouts from linux/io_uring.h, offsets in bytes unless said otherwise. The rings are
 * shared with the kernel: indices are loaded and stored with `Atomics`, before and after the
 * entries that they speak of.
 */
import { MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE } from "./abi.ts";
import { EAGAIN, EBUSY, EINTR, ENOSYS } from "./errno.ts";
import { acknowledge, createEventFd } from "./event.ts";
import { Fd } from "./fd.ts";
import { bytes, check, errno, libc, library, runtime, SystemError } from "./libc.ts";

/** Operations, for `Uring.push`. */
export const UringOperation = {
  READV: 1,
  WRITEV: 2,
  FSYNC: 3,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
} as const;

/** FSYNC syncs data and what is needed to find it, as fdatasync(2). */
export const URING_FSYNC_DATASYNC = 1;

const SETUP_CQSIZE = 1 << 3;
const SETUP_CLAMP = 1 << 4;
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_DEFER_TASKRUN = 1 << 13;
const SETUP = SETUP_CQSIZE | SETUP_CLAMP | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN;
const ENTER_GETEVENTS = 1;
const REGISTER_EVENTFD = 4;

/** One mapping for both rings, no completion is dropped, iovecs are read at submission. */
const NEEDED_FEATURES = 1 | 2 | 4;

const OFFSET_SQ_RING = 0;
const OFFSET_SQES = 0x10000000;
const SQE_WORDS = 16;
const CQE_WORDS = 4;
const CQE_SIZE = 16;

/** struct io_uring_params, as indices of 32-bit words: its submission and completion offsets. */
const PARAMS = { size: 120, sqEntries: 0, cqEntries: 1, flags: 2, features: 5, sq: 10, cq: 20 };
const SQ = { tail: 1, ringMask: 2, array: 6 };
const CQ = { head: 0, tail: 1, ringMask: 2, cqes: 5 };

/** glibc has no functions of their own for these; the numbers are the same on x86-64 and arm64. */
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const SYS_IO_URING_REGISTER = 427;

interface Calls {
  setup(number: number, entries: number, params: Uint8Array): number;
  enter(
    number: number,
    fd: number,
    submit: number,
    wait: number,
    flags: number,
    signals: null,
    size: number,
  ): number;
  register(number: number, fd: number, code: number, args: Uint8Array, count: number): number;
}

let calls: Calls | null = null;

/** `syscall`, bound once for each shape of its arguments. The seventh lies on the stack: all of it counts. */
function bindCalls(): Calls {
  if (calls !== null) return calls;
  const setup = runtime.bind(library, {
    syscall: { args: ["usize", "u32", "buffer"], result: "i32" },
  });
  const enter = runtime.bind(library, {
    syscall: { args: ["usize", "i32", "u32", "u32", "u32", "buffer", "usize"], result: "i32" },
  });
  const register = runtime.bind(library, {
    syscall: { args: ["usize", "i32", "u32", "buffer", "u32"], result: "i32" },
  });
  calls = { setup: setup.syscall, enter: enter.syscall, register: register.syscall };
  return calls;
}

function map(fd: Fd, length: number, offset: number): number {
  const address = libc.mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd.number, offset);
  if (address === MAP_FAILED) throw new SystemError("mmap", errno());
  return address;
}

const NOTHING = new Int32Array(0);

/** A pair of rings. Entries are for the thread that made it. */
export class Uring implements Disposable {
  readonly fd: Fd;
  /** Readable when completions wait for `collect`. */
  readonly events: Fd;
  /** What the last completion that `next` took was submitted with. */
  token = 0;
  /** Its result: as the system call's, a negative error number for a failure. */
  result = 0;
  /** Operations pushed whose completion was not taken yet. */
  inFlight = 0;
  /** Operations that may be in flight at most: so many completions have room. */
  readonly capacity: number;

  readonly #enter: Calls["enter"];
  readonly #mappings: (readonly [address: number, length: number])[] = [];
  /** Both rings and the entries, as words. Empty once disposed of: their memory is gone. */
  #ring: Int32Array = NOTHING;
  #sqes: Int32Array = NOTHING;
  readonly #sqEntries: number;
  readonly #sqMask: number;
  readonly #cqMask: number;
  /** Word indices in `#ring`. */
  readonly #sqTail: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqes: number;
  #tail = 0;
  #head = 0;
  /** Entries pushed since the last submission. */
  #pushed = 0;

  /**
   * `entries` may be pushed before they are submitted. Throws `SystemError`: ENOSYS or EINVAL where the
   * kernel is too old, EPERM where io_uring is switched off (kernel.io_uring_disabled) or seccomp forbids it,
   * ENOMEM beyond RLIMIT_MEMLOCK of older kernels.
   */
  constructor(entries: number, capacity: number) {
    const { setup, enter, register } = bindCalls();
    this.#enter = enter;
    const params = bytes(PARAMS.size);
    const words = new Uint32Array(params.buffer);
    words[PARAMS.cqEntries] = capacity;
    words[PARAMS.flags] = SETUP;
    this.fd = new Fd(check(setup(SYS_IO_URING_SETUP, entries, params), "io_uring_setup"));
    this.events = createEventFd();
    try {
      const eventFd = bytes(4);
      new Int32Array(eventFd.buffer)[0] = this.events.number;
      check(
        register(SYS_IO_URING_REGISTER, this.fd.number, REGISTER_EVENTFD, eventFd, 1),
        "io_uring_register",
      );
      if ((words[PARAMS.features]! & NEEDED_FEATURES) !== NEEDED_FEATURES) {
        throw new SystemError("io_uring_setup", ENOSYS);
      }
      this.#sqEntries = words[PARAMS.sqEntries]!;
      this.capacity = words[PARAMS.cqEntries]!;
      const sqArray = words[PARAMS.sq + SQ.array]!;
      const cqes = words[PARAMS.cq + CQ.cqes]!;
      const ringSize = Math.max(sqArray + this.#sqEntries * 4, cqes + this.capacity * CQE_SIZE);
      this.#ring = this.#view(ringSize, OFFSET_SQ_RING);
      this.#sqes = this.#view(this.#sqEntries * SQE_WORDS * 4, OFFSET_SQES);
      const at = (offset: number) => words[offset]! >> 2;
      this.#sqTail = at(PARAMS.sq + SQ.tail);
      this.#cqHead = at(PARAMS.cq + CQ.head);
      this.#cqTail = at(PARAMS.cq + CQ.tail);
      this.#cqes = cqes >> 2;
      this.#sqMask = this.#ring[at(PARAMS.sq + SQ.ringMask)]!;
      this.#cqMask = this.#ring[at(PARAMS.cq + CQ.ringMask)]!;
      // Entry i of the ring is always entry i of the table.
      for (let i = 0; i < this.#sqEntries; i++) this.#ring[(sqArray >> 2) + i] = i;
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #view(length: number, offset: number): Int32Array {
    const address = map(this.fd, length, offset);
    this.#mappings.push([address, length]);
    return new Int32Array(runtime.view(address, length));
  }

  /** True when `push` needs a `submit` first. */
  get full(): boolean {
    return this.#pushed === this.#sqEntries;
  }

  /**
   * Adds an operation on `fd` at byte `offset`. The memory at `low` and `high`, halves of an address,
   * must stay until completion, a struct iovec array there only until `submit`. `length` counts
   * bytes or iovecs, `flags` are the operation's own. FALLOCATE has its mode for a length and the
   * bytes for an address. `token` comes back with the completion. Throws RangeError when full.
   */
  push(
    operation: number,
    fd: number,
    offset: number,
    low: number,
    high: number,
    length: number,
    flags: number,
    token: number,
  ): void {
    if (this.#pushed === this.#sqEntries) throw new RangeError("Cannot submit: the ring is full");
    const words = this.#sqes;
    const at = Math.imul(this.#tail & this.#sqMask, SQE_WORDS);
    words[at] = operation;
    words[at + 1] = fd;
    words[at + 2] = offset | 0;
    words[at + 3] = offset / 4294967296;
    words[at + 4] = low;
    words[at + 5] = high;
    words[at + 6] = length;
    words[at + 7] = flags;
    words[at + 8] = token;
    for (let i = at + 9; i < at + SQE_WORDS; i++) words[i] = 0;
    this.#tail = (this.#tail + 1) | 0;
    this.#pushed++;
    this.inFlight++;
  }

  /**
   * Hands over what was pushed, and posts what has completed meanwhile. Returns 0, or a negative error number when the kernel took nothing for
   * now, as for lack of memory: try again later. Throws `SystemError` when it never will.
   */
  submit(): number {
    if (this.#pushed === 0) return 0;
    Atomics.store(this.#ring, this.#sqTail, this.#tail);
    while (this.#pushed > 0) {
      const taken = this.#call(this.#pushed);
      if (taken > 0) this.#pushed -= taken;
      else if (taken !== -EINTR) return taken === 0 ? -EAGAIN : taken;
    }
    return 0;
  }

  /** Lets the kernel post completions, for `next` to take, and waits for the next event. */
  collect(): void {
    acknowledge(this.events.number);
    this.#call(0);
  }

  /** Takes the next completion into `token` and `result`. False when there is none. */
  next(): boolean {
    const ring = this.#ring;
    if (this.#head === Atomics.load(ring, this.#cqTail)) return false;
    const at = this.#cqes + Math.imul(this.#head & this.#cqMask, CQE_WORDS);
    this.token = ring[at]!;
    this.result = ring[at + 2]!;
    this.#head = (this.#head + 1) | 0;
    Atomics.store(ring, this.#cqHead, this.#head);
    this.inFlight--;
    return true;
  }

  /**
   * Gives the rings up. The kernel goes on with what is in flight and may write to its memory: wait for
   * `inFlight` to be 0 first.
   */
  [Symbol.dispose](): void {
    this.#ring = NOTHING;
    this.#sqes = NOTHING;
    // No view of these is left.
    for (const [address, length] of this.#mappings.splice(0)) libc.munmap(address, length);
    this.fd.close();
    this.events.close();
  }

  /** Submits so many entries and posts what has completed. */
  #call(submit: number): number {
    const { number } = this.fd;
    const result = this.#enter(SYS_IO_URING_ENTER, number, submit, 0, ENTER_GETEVENTS, null, 0);
    if (result >= 0) return result;
    const why = errno();
    if (why === EINTR || why === EAGAIN || why === EBUSY) return -why;
    throw new SystemError("io_uring_enter", why);
  }
}
