import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from "./abi.ts";
import { Fd } from "./fd.ts";
import { check, cString, libc } from "./libc.ts";

/** Anonymous shared memory of `length` bytes, to be mapped and passed to another process. */
export function createMemfd(name: string, length: number): Fd {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const fd = new Fd(check(libc.memfd_create(cString(name), flags), "memfd_create"));
  try {
    check(libc.ftruncate(fd.number, length), "ftruncate");
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}
