/**
 * Child processes of the tests. Each leads a process group of its own and is stopped by its id,
 * also when the test runner itself gets killed: a reaper waits for the end of its standard input.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { within } from "./wait.ts";

export interface Running {
  readonly name: string;
  readonly pid: number;
  /** What the process wrote so far, the newest 64 KiB of it. */
  log(): string;
  /** Exit status, or the name of the signal that ended it. Null while it runs. */
  status(): number | string | null;
  /** Settles when the process ended. */
  readonly ended: Promise<number | string>;
  /** Sends a signal to the process alone. SIGKILL to its group follows when it stays. */
  stop(signal?: NodeJS.Signals, timeoutMs?: number): Promise<number | string>;
  /** The pipes to the process's input and output, for those started with `pipe`. */
  readonly stdin: ChildProcess["stdin"];
  readonly stdout: ChildProcess["stdout"];
}

export interface StartOptions {
  env?: Record<string, string>;
  /** Keeps standard input and output apart for the caller; only stderr goes to the log then. */
  pipe?: boolean;
}

const keptBytes = 65_536;

/** Starts a program. Its output is collected for failure messages. */
export function start(name: string, command: string[], options: StartOptions = {}): Running {
  const [program, ...args] = command;
  const child = spawn(program, args, {
    detached: true,
    env: { ...process.env, ...options.env },
    stdio: [options.pipe ? "pipe" : "ignore", "pipe", "pipe"],
  });
  let text = "";
  const keep = (chunk: Uint8Array | string) => {
    text = (text + chunk.toString()).slice(-keptBytes);
  };
  child.stderr?.on("data", keep);
  if (!options.pipe) child.stdout?.on("data", keep);
  let status: number | string | null = null;
  const ended = new Promise<number | string>((resolve) => {
    const end = (value: number | string) => {
      status ??= value;
      resolve(status);
    };
    child.once("error", (error) => {
      text += `cannot start ${command.join(" ")}: ${error.message}\n`;
      end(127);
    });
    child.once("exit", () => {
      if (child.pid === undefined) return;
      // What the program itself started (User-Mode Linux has helpers) must not stay behind.
      signal(-child.pid, "SIGKILL");
      reaper().forget(child.pid);
    });
    // Unlike "exit" it comes after the last output.
    child.once("close", (code, signal) => end(signal ?? code ?? "unknown"));
  });
  const pid = child.pid ?? 0;
  const label = `${name} (pid ${pid})`;
  if (pid !== 0) reaper().watch(pid);
  return {
    name,
    pid,
    ended,
    log: () => text,
    status: () => status,
    stdin: child.stdin,
    stdout: child.stdout,
    async stop(name = "SIGTERM", timeoutMs = 5_000) {
      if (status === null && pid !== 0) signal(pid, name);
      try {
        return await within(timeoutMs, ended, `${label} to end after ${name}`);
      } catch (error) {
        if (pid !== 0) signal(-pid, "SIGKILL");
        await within(5_000, ended, `${label} to end after SIGKILL`);
        throw error;
      }
    },
  };
}

/** Sends a signal to a process, or to the group of a negative id. */
function signal(target: number, name: NodeJS.Signals): void {
  try {
    process.kill(target, name);
  } catch {
    // It has ended meanwhile, which is what was wanted.
  }
}

interface Reaper {
  watch(pid: number): void;
  forget(pid: number): void;
}

let theReaper: Reaper | null = null;

const reaperScript = `
live=" "
while read -r what pid; do
  case $what in
    watch) live="$live$pid " ;;
    forget) live="\${live%% $pid *} \${live#* $pid }" ;;
  esac
done
for pid in $live; do kill -s KILL -- "-$pid" 2>/dev/null; done
`;

function reaper(): Reaper {
  if (theReaper !== null) return theReaper;
  const child = spawn("/bin/sh", ["-c", reaperScript], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.on("error", () => {});
  child.stdin?.on("error", () => {});
  child.unref();
  // Where the runtime can, its pipe must not keep the test runner alive.
  (child.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  const tell = (what: string, pid: number) => child.stdin?.write(`${what} ${pid}\n`);
  theReaper = { watch: (pid) => tell("watch", pid), forget: (pid) => tell("forget", pid) };
  return theReaper;
}
