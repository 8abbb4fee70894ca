/** Descriptors of many kinds that a front-end might pass, by mistake or on purpose. */
import {
  bytes,
  check,
  createEventFd,
  createMemfd,
  EFD_CLOEXEC,
  Fd,
  libc,
  O_RDONLY,
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

/** Descriptors of what nobody can map, and the ends that keep them from being broken. */
function unmappable(): Fd[] {
  const { reader, writer } = createPipe();
  return [createEventFd(), reader, writer, ...socketPair(), directory()];
}

/** One descriptor of each kind. */
export const assortment = (): Fd[] => [
  ...unmappable(),
  createMemfd("bad-input-object", 65536),
  zeroDevice(),
];

/** What cannot be shared memory: no memory at all, none to write to, or none of any size. */
export const unshareable = (image: string): Fd[] => [
  ...unmappable(),
  createMemfd("bad-input-object", 0),
  openFile(image, O_RDONLY),
  openFile("/dev/null", O_RDWR),
];

/** `count` descriptors, taken in turn from `from`. The same one may be passed many times. */
export function repeat(from: readonly Fd[], count: number): Fd[] {
  return Array.from({ length: count }, (_, i) => from[i % from.length]!);
}
