/** A back-end program as a child process. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/program.ts";
import { environment } from "./run.ts";

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
}

/** How long a program may take to listen and to end, in milliseconds. */
const START_LIMIT = 20_000;
const STOP_LIMIT = 5_000;

export class Program implements Disposable {
  /** Everything it wrote on stderr so far. */
  stderr = "";
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;

  /** Starts a command; the name of one of our launchers will do. */
  constructor(command: string, args: readonly string[]) {
    const own = command === "ringside" || command.startsWith("vhost-user-");
    const path = own ? join(root, "bin", command) : command;
    const stdio = ["ignore", "ignore", "pipe"] as const;
    this.#child = spawn(path, args, { stdio: [...stdio], env: environment() });
    this.#child.stderr!.on("data", (data) => {
      this.stderr += data;
    });
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      // Under Deno "close" names the signal that was sent, even when the program exited by itself.
      let how: Ended = { code: null, signal: null };
      this.#child.on("exit", (code, signal) => {
        how = { code, signal };
      });
      this.#child.on("close", () => resolve(how));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until a socket is there. Throws when the program ends before. */
  async listens(socket: string): Promise<this> {
    for (const start = performance.now(); !existsSync(socket); ) {
      if (!this.running) throw new Error(`The program ended: ${this.stderr}`);
      if (performance.now() - start > START_LIMIT) throw new Error(`No socket: ${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return this;
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Ended> {
    // Not #child.kill: after it Deno reports the signal, whatever way the program ended.
    if (this.running) process.kill(this.pid, signal);
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT);
    const ended = await this.ended;
    clearTimeout(timer);
    return ended;
  }

  [Symbol.dispose](): void {
    if (this.running) this.#child.kill("SIGKILL");
  }
}
