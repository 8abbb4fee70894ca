/** Everything that talks to the operating system. The rest of the project imports only this file. */
export * from "./abi.ts";
export { Arena, type Block } from "./arena.ts";
export * from "./errno.ts";
export { acknowledge, createEventFd, hungUp, Poller, readable, signal } from "./event.ts";
export { Fd, type FileStatus, openFile } from "./fd.ts";
export { IOV_MAX, Iovecs } from "./iovec.ts";
export { bytes, check, cString, errno, libc, runtime, SystemError } from "./libc.ts";
export { Mapping, PAGE_SIZE, type Pages, Patchwork, WINDOW_SIZE, Window } from "./mapping.ts";
export { createMemfd } from "./memfd.ts";
export { PrivateMemory } from "./private-memory.ts";
export { setNoNewPrivileges } from "./privileges.ts";
export {
  accept,
  connectUnix,
  hasListener,
  listenUnix,
  MessageBuffer,
  type SocketKind,
  socketKind,
  socketPair,
} from "./socket.ts";
export type { Callback, Functions, Libc, ProgramPlan, Runtime, Signature } from "./symbols.ts";
export {
  configureTap,
  detachTap,
  openTap,
  type TapFlags,
  TapOffload,
  tapFlags,
  tapName,
} from "./tap.ts";
export { URING_FSYNC_DATASYNC, Uring, UringOperation } from "./uring.ts";
export {
  awaitPages,
  copyPages,
  createUserfault,
  endAwaitingPages,
  readFault,
  wakeFaults,
} from "./userfault.ts";
export {
  Box,
  bindVirglrenderer,
  ResourceArgs,
  VIRGL_USE_EGL,
  VIRGL_USE_SURFACELESS,
  type VirglCallbacks,
  type VirglCallbackTable,
  type Virglrenderer,
  writeVirglCallbacks,
} from "./virglrenderer.ts";
