/** The back-end under test: a socket, and with `--exec` the program behind it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { frontEndMessages } from "../../core/protocol.ts";
import { Connection } from "../connection.ts";
import { BackEndError } from "../errors.ts";
import { sleep } from "../wait.ts";
import { isAlive, isListening } from "./process.ts";

export interface TargetOptions {
  /** For each answer, in milliseconds. */
  readonly timeout: number;
}

/** How a process ended; neither is null at the same time. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** How long a program may take to listen, in milliseconds. */
const START_LIMIT = 20_000;
/** How long it may take to end after SIGTERM. */
const STOP_LIMIT = 3_000;
/** How long the first answer of a program may take. */
export const FIRST_ANSWER = 10_000;
/** How long one that serves a single connection may take to end with it. */
export const ONE_SHOT_LIMIT = 1_000;
const SETTLE_LIMIT = 2_000;
/** Where the name of the program's socket goes in a command. */
const PLACE = "{socket}";

export class Target implements Disposable {
  readonly socket: string;
  readonly timeout: number;
  /** The program serves one connection and ends with it, so each connection gets a new process. */
  oneShot = false;
  /** It was seen to serve more than one connection, so that one may be spent on finding out. */
  serving = false;
  /** Ends of processes that nobody asked for, in order; the runner takes them. */
  readonly exits: Exit[] = [];
  readonly #command: string | null;
  #folder: string | null = null;
  #child: ChildProcess | null = null;
  readonly #killed = new WeakSet<ChildProcess>();
  #log = "";

  private constructor(socket: string, command: string | null, { timeout }: TargetOptions) {
    this.socket = socket;
    this.timeout = timeout;
    this.#command = command;
  }

  /** A back-end that runs already. */
  static at(socket: string, options: TargetOptions): Target {
    return new Target(socket, null, options);
  }

  /** A program to start, by a shell command in which `{socket}` stands for the path. */
  static exec(command: string, options: TargetOptions): Target {
    const folder = mkdtempSync(join(tmpdir(), "ringside-conform-"));
    const socket = join(folder, "socket");
    const target = new Target(socket, command.replaceAll(PLACE, socket), options);
    target.#folder = folder;
    return target;
  }

  /** True when the program is ours to start and to look at. */
  get owned(): boolean {
    return this.#command !== null;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("Cannot name the process: it was not started here");
    return pid;
  }

  /** Tells whether the program runs; true where that cannot be known. */
  get alive(): boolean {
    return this.#command === null || (this.#child !== null && isAlive(this.pid));
  }

  /** The last line that the program wrote on stderr. */
  get lastWords(): string {
    try {
      return readFileSync(this.#log, "utf8").trim().split("\n").at(-1) ?? "";
    } catch {
      return "";
    }
  }

  /** Connects; starts the program first where that is ours to do and it does not run. */
  connect(timeout: number = this.timeout): Connection {
    if (this.owned) {
      if (this.oneShot && !this.endsWithin(ONE_SHOT_LIMIT)) this.restart();
      if (!this.alive) this.start();
    }
    return Connection.connect(this.socket, { timeout });
  }

  /** Starts the program and waits until it listens. */
  start(): void {
    if (this.#command === null) return;
    this.stop();
    rmSync(this.socket, { force: true });
    this.#log = join(this.#folder!, "log");
    // The shell becomes the program, so that the process is the program's.
    const child = spawn("sh", ["-c", `exec ${this.#command} 2>"$0"`, this.#log], {
      stdio: "ignore",
    });
    child.on("error", () => {});
    child.on("exit", (code, signal) => {
      if (!this.#killed.has(child)) this.exits.push({ code, signal });
    });
    this.#child = child;
    const end = performance.now() + START_LIMIT;
    while (!isListening(this.socket, process.pid)) {
      if (this.alive && performance.now() < end) sleep(5);
      else throw new Error(`The program does not listen on ${this.socket}: ${this.lastWords}`);
    }
    if (this.serving) this.#awaitAnswer();
  }

  /** A program may listen a while before it serves. */
  #awaitAnswer(): void {
    try {
      using connection = Connection.connect(this.socket, { timeout: FIRST_ANSWER });
      connection.request(frontEndMessages.GET_FEATURES);
    } catch (error) {
      if (!(error instanceof BackEndError)) throw error;
    }
  }

  /** Kills the program without a word, as a crash does, and starts it again. */
  restart(): void {
    this.#kill("SIGKILL");
    this.start();
  }

  /** Ends the program. False when SIGTERM did not do it. */
  stop(): boolean {
    return this.#kill("SIGTERM");
  }

  #kill(signal: NodeJS.Signals): boolean {
    const child = this.#child;
    if (child === null) return true;
    this.#child = null;
    if (!isAlive(child.pid!)) return true;
    this.#killed.add(child);
    process.kill(child.pid!, signal);
    if (waitUntil(() => !isAlive(child.pid!), STOP_LIMIT)) return true;
    process.kill(child.pid!, "SIGKILL");
    waitUntil(() => !isAlive(child.pid!), STOP_LIMIT);
    return false;
  }

  #ends(milliseconds: number): boolean {
    return this.#child === null || waitUntil(() => !this.alive, milliseconds);
  }

  /** Tells whether the program ends within a time. */
  endsWithin(milliseconds: number): boolean {
    return this.owned && this.#ends(milliseconds);
  }

  /** How many descriptors are open, once that does not change any more. */
  settledDescriptors(goal = 0): number {
    let last = -1;
    const end = performance.now() + SETTLE_LIMIT;
    for (let same = 0; same < 3 && performance.now() < end; ) {
      const count = readdirSync(`/proc/${this.pid}/fd`).length;
      if (count <= goal) return count;
      same = count === last ? same + 1 : 0;
      last = count;
      sleep(20);
    }
    return last;
  }

  [Symbol.dispose](): void {
    this.stop();
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Waits until a back-end that only just ended a connection takes the next one. */
export function answers(target: Target): boolean {
  try {
    using connection = target.connect();
    connection.request(frontEndMessages.GET_FEATURES);
    return true;
  } catch (error) {
    if (error instanceof BackEndError) return false;
    if (error instanceof Error && /ENOENT|ECONNREFUSED|EAGAIN|listen/.test(error.message)) {
      return false;
    }
    throw error;
  }
}

function waitUntil(condition: () => boolean, milliseconds: number): boolean {
  const end = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > end) return false;
    sleep(5);
  }
  return true;
}
