/** Waiting for descriptors with poll(2): everything in this folder is synchronous and has a deadline. */
import { bytes, check, EINTR, errno, libc, POLLFD } from "../ffi/mod.ts";

/** Something can be read, or the other side is gone. */
export const READABLE = 0x1;
/** Something can be written. */
export const WRITABLE = 0x4;

/** How long a back-end may take to answer unless said otherwise, in milliseconds. */
export const DEFAULT_TIMEOUT = 10_000;

/** A reusable list of descriptors to wait for. */
export class PollSet {
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  #count = 0;

  constructor(capacity: number) {
    this.#data = bytes(capacity * POLLFD.size);
    this.#view = new DataView(this.#data.buffer);
  }

  clear(): void {
    this.#count = 0;
  }

  /** Appends a descriptor. Throws RangeError when the list is full. */
  add(fd: number, events: number = READABLE): void {
    const at = this.#count * POLLFD.size;
    this.#view.setInt32(at + POLLFD.fd, fd, true);
    this.#view.setInt16(at + POLLFD.events, events, true);
    this.#view.setInt16(at + POLLFD.revents, 0, true);
    this.#count++;
  }

  /**
   * Waits until a descriptor is ready, at most `milliseconds`. Returns how many are; 0 when the time
   * is up. Signals do not cut it short.
   */
  wait(milliseconds: number): number {
    const end = performance.now() + milliseconds;
    let left = milliseconds;
    for (;;) {
      const ready = libc.poll(this.#data, this.#count, Math.ceil(left));
      if (ready >= 0) return ready;
      if (errno() !== EINTR) return check(-1, "poll");
      left = Math.max(0, end - performance.now());
    }
  }

  /** Tells whether descriptor `i` of the last `wait` is ready, at its end, or broken. */
  ready(i: number): boolean {
    return this.#view.getInt16(i * POLLFD.size + POLLFD.revents, true) !== 0;
  }
}

const single = new PollSet(1);

/** Waits for one descriptor. False when `milliseconds` have passed. */
export function waitFor(fd: number, events: number, milliseconds: number): boolean {
  single.clear();
  single.add(fd, events);
  return single.wait(milliseconds) > 0;
}

/** Blocks the thread, JavaScript's own events included. */
export function sleep(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  for (let left = milliseconds; left > 0; left = end - performance.now()) {
    libc.poll(null, 0, Math.ceil(left));
  }
}
