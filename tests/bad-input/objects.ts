/** Descriptors of many kinds that a front-end might pass, by mistake or on purpose. */
import {
  bytes,
  check,
  createEventFd,
  createMemfd,
  EFD_CLOEXEC,
  Fd,
  libc,
  O_RDWR,
  openFile,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";

const O_DIRECTORY = process.arch === "arm64" ? 0o40000 : 0o200000;

/** An eventfd that blocks its readers and, when its counter is full, its writers. */
export const blockingEventFd = () => new Fd(check(libc.eventfd(0, EFD_CLOEXEC), "eventfd"));

/** Gives an eventfd's counter its largest value: the next write has to wait. */
export function fill(eventfd: Fd): void {
  const value = bytes(8).fill(0xff);
  value[0] = 0xfe;
  check(libc.write(eventfd.number, value, 8), "write");
}

export const directory = () => openFile("/", O_DIRECTORY);
export const zeroDevice = () => openFile("/dev/zero", O_RDWR);

/** One descriptor of each kind, and the ends that keep them from being broken. */
export function assortment(): Fd[] {
  const { reader, writer } = createPipe();
  const [left, right] = socketPair();
  const memfd = createMemfd("bad-input-object", 65536);
  return [createEventFd(), memfd, reader, writer, left, right, directory(), zeroDevice()];
}

/** `count` descriptors, taken in turn from `from`. The same one may be passed many times. */
export function repeat(from: readonly Fd[], count: number): Fd[] {
  return Array.from({ length: count }, (_, i) => from[i % from.length]!);
}
