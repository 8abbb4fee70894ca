/** Back-end programs as child processes of a test or a benchmark. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../guest/lab.ts";
import { type Running, start } from "../guest/processes.ts";
import { until } from "../guest/wait.ts";

export interface ProgramOptions {
  /** The path at which the program listens; `ready` waits for it. */
  readonly socket: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
}

/** How long a program may take to open its socket, in milliseconds. */
const START_LIMIT = 20_000;

/** A running program that serves a socket. It ends with the test that started it. */
export class Program {
  readonly socket: string;
  readonly ended: Promise<Ended>;
  readonly #command: string;
  readonly #running: Running;

  constructor(command: string, args: readonly string[], { socket, env }: ProgramOptions) {
    this.socket = socket;
    this.#command = [command, ...args].join(" ");
    // With pipes of its own, the log is what the program wrote on stderr.
    this.#running = start(command, [command, ...args], { env: { ...env }, pipe: true });
    this.ended = this.#running.ended.then((how) =>
      typeof how === "number" ? { code: how, signal: null } : { code: null, signal: how },
    );
  }

  get pid(): number {
    return this.#running.pid;
  }

  get running(): boolean {
    return this.#running.status() === null;
  }

  /** What the program wrote on stderr so far, the newest 64 KiB of it. */
  get stderr(): string {
    return this.#running.log();
  }

  /** Waits until the socket is there. Throws when the program ends first. */
  async ready(): Promise<this> {
    const probe = () => {
      if (existsSync(this.socket)) return true;
      if (!this.running) throw new Error("it ended");
      return null;
    };
    try {
      await until(START_LIMIT, probe, `its socket ${this.socket}`);
      return this;
    } catch (error) {
      await this.stop("SIGKILL");
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${this.#command} does not serve: ${reason}\n${this.stderr}`);
    }
  }

  /** Sends a signal, nothing when the program has ended. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) process.kill(this.pid, signal);
  }

  /** Sends a signal and waits for the end. Throws, and kills the program, when it stays. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Ended> {
    await this.#running.stop(signal);
    return this.ended;
  }
}

/** The block program of this repository. */
export const blkProgram: string = join(repository, "bin/vhost-user-blk");

/** Starts `vhost-user-blk` under a runtime, "bun" or "deno", and waits until it listens. */
export function startBlk(
  runtime: string,
  socket: string,
  blkFile: string,
  options: readonly string[] = [],
): Promise<Program> {
  const args = [`--socket-path=${socket}`, `--blk-file=${blkFile}`, ...options];
  return new Program(blkProgram, args, { socket, env: { RINGSIDE_RUNTIME: runtime } }).ready();
}
