/** Starts programs that write their log to a file, without waiting for JavaScript events. */
import { type ChildProcess, spawn } from "node:child_process";
import { runtime } from "../../ffi/mod.ts";
import { sleep } from "../../frontend/mod.ts";
import { isAlive, isListening } from "./process-status.ts";

/** How long a program may take to listen, and to end, in milliseconds. */
const START_LIMIT = 20_000;
const STOP_LIMIT = 5_000;

export interface LaunchOptions {
  /** The file that takes what the program writes on stderr. */
  readonly log: string;
  /** Shell commands that run first, as `ulimit -n 64`. */
  readonly prelude?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a command under the runtime that runs this. */
export function launch(command: readonly string[], options: LaunchOptions): ChildProcess {
  const { log, prelude = ":", env } = options;
  // The shell becomes the program, so the pid is the program's. A log may be emptied meanwhile.
  return spawn("sh", ["-c", `${prelude}; exec "$@" 2>>"$0"`, log, ...command], {
    stdio: "ignore",
    env: { ...process.env, RINGSIDE_RUNTIME: runtime.name, ...env },
  });
}

/** Waits until a process listens on a path. Throws with its log when it does not. */
export function waitForListener(pid: number, path: string, log: () => string): void {
  const end = performance.now() + START_LIMIT;
  while (!isListening(path, pid)) {
    if (performance.now() > end || !isAlive(pid)) {
      throw new Error(`The program does not listen on ${path}: ${log()}`);
    }
    sleep(2);
  }
}

/** Waits for the end of a process. False when it does not come in time. */
export function waitForEnd(pid: number, milliseconds = STOP_LIMIT): boolean {
  const end = performance.now() + milliseconds;
  while (isAlive(pid)) {
    if (performance.now() > end) return false;
    sleep(2);
  }
  return true;
}

/** Sends a signal and waits for the end. False when the process had to be killed. */
export function stop(pid: number, signal: NodeJS.Signals = "SIGTERM"): boolean {
  // Not the child's own `kill`: after it Deno reports the signal, whatever way the program ended.
  if (isAlive(pid)) process.kill(pid, signal);
  if (waitForEnd(pid)) return true;
  process.kill(pid, "SIGKILL");
  waitForEnd(pid);
  return false;
}
