/** Tap interfaces (linux/if_tun.h): Ethernet frames through a descriptor, each after a virtio-net header. */
import { O_NONBLOCK, O_RDWR } from "./abi.ts";
import { type Fd, openFile } from "./fd.ts";
import { bytes, check, libc, runtime } from "./libc.ts";
import type { Functions } from "./symbols.ts";

const TUNSETIFF = 0x400454ca;
const TUNGETIFF = 0x800454d2;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETQUEUE = 0x400454d9;
const TUNSETVNETLE = 0x400454dc;

const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

/** struct ifreq: name[16]@0, flags u16@16. */
const IFREQ = { size: 40, name: 0, nameLength: 16, flags: 16 } as const;

/** What the reader of a tap takes over from the kernel (TUN_F_*). */
export const TapOffload = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  ECN: 0x08,
  UFO: 0x10,
  USO4: 0x20,
  USO6: 0x40,
} as const;

const ioctlOfNumbers = { ioctl: { args: ["i32", "usize", "usize"], result: "i32" } } as const;
let numeric: Functions<typeof ioctlOfNumbers> | null = null;

/** TUNSETOFFLOAD takes a number where other requests take a pointer. */
function ioctlNumber(fd: Fd, request: number, value: number): number {
  numeric ??= runtime.bind(process.env.RINGSIDE_LIBC || "libc.so.6", ioctlOfNumbers);
  return numeric.ioctl(fd.number, request, value);
}

function request(name: string, flags: number): Uint8Array<ArrayBuffer> {
  const encoded = new TextEncoder().encode(name);
  if (encoded.length === 0 || encoded.length >= IFREQ.nameLength) {
    throw new RangeError(`Cannot use "${name}" as an interface: its name has 1 to 15 bytes`);
  }
  const result = bytes(IFREQ.size);
  result.set(encoded);
  new DataView(result.buffer).setUint16(IFREQ.flags, flags, true);
  return result;
}

/**
 * Opens one queue of a tap interface, which is made when there is none of that name. All queues are
 * opened with the same `multi`. Throws `SystemError`.
 */
export function openTap(name: string, multi: boolean): Fd {
  const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multi ? IFF_MULTI_QUEUE : 0);
  const argument = request(name, flags);
  const fd = openFile("/dev/net/tun", O_RDWR | O_NONBLOCK);
  try {
    check(libc.ioctl(fd.number, TUNSETIFF, argument), "ioctl(TUNSETIFF)", name);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** What kind of interface a descriptor belongs to. */
export interface TapFlags {
  readonly tap: boolean;
  /** Frames come with a virtio-net header. */
  readonly header: boolean;
  readonly multi: boolean;
}

/** Throws `SystemError` for what is no tun device. */
export function tapFlags(fd: Fd): TapFlags {
  const result = bytes(IFREQ.size);
  check(libc.ioctl(fd.number, TUNGETIFF, result), "ioctl(TUNGETIFF)");
  const flags = new DataView(result.buffer).getUint16(IFREQ.flags, true);
  return {
    tap: (flags & IFF_TAP) !== 0 && (flags & IFF_NO_PI) !== 0,
    header: (flags & IFF_VNET_HDR) !== 0,
    multi: (flags & IFF_MULTI_QUEUE) !== 0,
  };
}

/** The interface's name. */
export function tapName(fd: Fd): string {
  const result = bytes(IFREQ.size);
  check(libc.ioctl(fd.number, TUNGETIFF, result), "ioctl(TUNGETIFF)");
  const name = result.subarray(0, IFREQ.nameLength);
  return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
}

/**
 * Says how long the headers are, in bytes, and which offloads the reader takes. Throws
 * `SystemError`.
 */
export function configureTap(fd: Fd, headerSize: number, offloads: number): void {
  const value = (number: number) => new Uint8Array(new Int32Array([number]).buffer);
  check(libc.ioctl(fd.number, TUNSETVNETHDRSZ, value(headerSize)), "ioctl(TUNSETVNETHDRSZ)");
  check(libc.ioctl(fd.number, TUNSETVNETLE, value(1)), "ioctl(TUNSETVNETLE)");
  check(ioctlNumber(fd, TUNSETOFFLOAD, offloads), "ioctl(TUNSETOFFLOAD)");
}

/** Takes one queue of several out of use, or back into it. */
export function detachTap(fd: Fd, detached: boolean): void {
  const argument = bytes(IFREQ.size);
  const flags = detached ? IFF_DETACH_QUEUE : IFF_ATTACH_QUEUE;
  new DataView(argument.buffer).setUint16(IFREQ.flags, flags, true);
  check(libc.ioctl(fd.number, TUNSETQUEUE, argument), "ioctl(TUNSETQUEUE)");
}
