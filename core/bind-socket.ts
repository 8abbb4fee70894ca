/** Sockets at paths of our own: made, and removed again, without taking anything from others. */
import { lstatSync, type Stats, unlinkSync } from "node:fs";
import { resolve } from "node:path";
import {
  EADDRINUSE,
  errnoText,
  type Fd,
  hasListener,
  listenUnix,
  SystemError,
} from "../ffi/mod.ts";

/** A listening socket that this program made. */
export interface BoundSocket {
  readonly fd: Fd;
  /** Removes the path, unless it is somebody else's by now. Does not close `fd`. */
  unlink(): void;
}

function statusOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function sameFile(a: Stats | undefined, b: Stats | undefined): boolean {
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** Removes a socket that nobody listens on any more. Throws when something else is there. */
function removeStale(path: string): void {
  const before = statusOf(path);
  if (before === undefined) return;
  if (!before.isSocket()) {
    throw new Error(`Cannot listen on "${path}": it exists and is not a socket`);
  }
  let answered: boolean;
  try {
    answered = hasListener(path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const why = `it exists, and connecting to it failed: ${errnoText(error.errno)}`;
    throw new Error(`Cannot listen on "${path}": ${why}`, { cause: error });
  }
  if (answered) {
    throw new Error(`Cannot listen on "${path}": another program is listening there`);
  }
  // Another program may have replaced the stale socket in the meantime.
  if (sameFile(before, statusOf(path))) unlinkSync(path);
}

/**
 * Listens on a path. What a killed program left there is replaced; a socket that answers and
 * anything that is no socket is an error.
 */
export function bindSocket(path: string): BoundSocket {
  let fd: Fd;
  try {
    fd = listenUnix(path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.errno !== EADDRINUSE) {
      throw new Error(`Cannot listen on "${path}": ${errnoText(error.errno)}`, { cause: error });
    }
    removeStale(path);
    fd = listenUnix(path);
  }
  // The current folder may change before the end.
  const absolute = resolve(path);
  const own = statusOf(absolute);
  return {
    fd,
    unlink() {
      if (sameFile(own, statusOf(absolute))) unlinkSync(absolute);
    },
  };
}
