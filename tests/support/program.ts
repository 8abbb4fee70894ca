/**
 * A back-end program as a child process. The front-end that drives it blocks the thread, so nothing
 * here but `exit` waits for JavaScript events.
 */
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sleep } from "../../frontend/mod.ts";
import { Folder } from "./folder.ts";
import { launch, waitForEnd, waitForListener } from "./launch.ts";
import { isAlive } from "./process-status.ts";

export const root: string = fileURLToPath(new URL("../..", import.meta.url));

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Holds the socket and the log; a new one by default, which then ends with the program. */
  readonly folder?: Folder;
  /** The socket to wait for; none when null, `socket` in the folder by default. */
  readonly socket?: string | null;
}

/** The path of one of this repository's programs. */
export const launcher = (name: string): string => join(root, "bin", name);

export class Program implements Disposable {
  readonly folder: Folder;
  readonly socket: string;
  readonly exit: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #log: string;
  readonly #ownsFolder: boolean;

  /** Starts a command and waits for its socket. `SOCKET` in an argument stands for the path. */
  constructor(command: readonly string[], options: ProgramOptions = {}) {
    this.#ownsFolder = options.folder === undefined;
    this.folder = options.folder ?? new Folder();
    this.socket = options.socket ?? this.folder.at("socket");
    this.#log = this.folder.at(`log-${programs++}`);
    const words = command.map((word) => word.replace("SOCKET", this.socket));
    this.#child = launch(words, { log: this.#log, env: options.env ?? {} });
    // Deno names the signal that was sent, even when the program then exited by itself.
    this.exit = new Promise((resolve) => {
      this.#child.on("exit", (code, signal) => resolve({ code, signal }));
    });
    if (options.socket === null) return;
    try {
      waitForListener(this.pid, this.socket, () => this.log);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get alive(): boolean {
    return isAlive(this.pid);
  }

  /** What the program wrote on stderr. */
  get log(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, "utf8") : "";
  }

  signal(name: NodeJS.Signals): void {
    // Not #child.kill: after it Deno reports the signal, whatever way the program ended.
    process.kill(this.pid, name);
  }

  /** Sends a signal and waits for the end. False when the program had to be killed. */
  stop(name: NodeJS.Signals = "SIGTERM"): boolean {
    if (this.alive) this.signal(name);
    return this.ends();
  }

  /** Waits for the end. False when it does not come in time. */
  ends(milliseconds?: number): boolean {
    return waitForEnd(this.pid, milliseconds);
  }

  [Symbol.dispose](): void {
    if (this.alive) this.signal("SIGKILL");
    this.ends();
    if (this.#ownsFolder) this.folder[Symbol.dispose]();
  }
}

let programs = 0;

/** Asks until `probe` gives something else than null; the thread blocks in between. */
export function until<T>(probe: () => T | null, what: string, milliseconds = 10_000): T {
  const end = performance.now() + milliseconds;
  for (;;) {
    const value = probe();
    if (value !== null) return value;
    if (performance.now() > end) throw new Error(`${what} did not happen in ${milliseconds} ms`);
    sleep(5);
  }
}
