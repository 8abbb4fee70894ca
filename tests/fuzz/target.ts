/** A back-end process under fuzzing: its life, what it holds, and what it logs. Nothing waits for events. */
import { spawn } from "node:child_process";
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DraftName } from "../../core/drafts.ts";
import { connectUnix, runtime } from "../../ffi/mod.ts";
import { sleep } from "../bad-input/client.ts";

export type DeviceName = "parts" | "blk" | "rng";

/** What is served, and how. */
export interface Variant {
  readonly device: DeviceName;
  readonly drafts?: readonly DraftName[];
  /** Options besides. */
  readonly options?: readonly string[];
}

const optionsOf = ({ drafts = [], options = [] }: Variant): string[] => [
  ...drafts.map((draft) => `--draft=${draft}`),
  ...options,
];

export const titleOf = (variant: Variant): string =>
  [variant.device, ...optionsOf(variant)].join(" ");

const bin = fileURLToPath(new URL("../../bin/", import.meta.url));
const partsDevice = fileURLToPath(new URL("parts-device.ts", import.meta.url));

/** Bytes of the disk that the block device serves. */
export const DISK_SIZE = 4 * 1024 * 1024;
const START_LIMIT = 20_000;
const STOP_LIMIT = 5_000;
/** What the log may grow to before it is emptied. */
const LOG_LIMIT = 8 * 1024 * 1024;

const commands: Readonly<Record<DeviceName, (image: string) => readonly string[]>> = {
  // All reasons are told at level debug; the others test the limits of a log that people read.
  parts: () => [`${bin}ringside`, partsDevice, "--log-level=debug"],
  blk: (image) => [`${bin}vhost-user-blk`, `--blk-file=${image}`, "--log-level=info"],
  rng: () => [`${bin}vhost-user-rng`, "--log-level=debug"],
};

/** What a process holds. */
export interface Holdings {
  readonly fds: number;
  /** In KiB. */
  readonly vmSize: number;
  readonly rss: number;
}

export class Target {
  readonly variant: Variant;
  readonly socket: string;
  readonly image: string;
  readonly pid: number;
  readonly #folder: string;
  readonly #log: string;
  #logAt = 0;

  /** Starts the process, under the runtime that runs this. */
  constructor(variant: Variant) {
    const { device } = variant;
    this.variant = variant;
    this.#folder = mkdtempSync(join(tmpdir(), "ringside-fuzz-"));
    this.socket = join(this.#folder, "socket");
    this.image = join(this.#folder, "disk.img");
    this.#log = join(this.#folder, "log");
    writeFileSync(this.#log, "");
    writeFileSync(this.image, "");
    truncateSync(this.image, DISK_SIZE);
    const command = [
      ...commands[device](this.image),
      `--socket-path=${this.socket}`,
      ...optionsOf(variant),
    ];
    const child = spawn("sh", ["-c", 'exec "$@" 2>>"$0"', this.#log, ...command], {
      stdio: "ignore",
      env: { ...process.env, RINGSIDE_RUNTIME: runtime.name },
    });
    child.unref();
    this.pid = child.pid!;
    this.#waitForSocket();
  }

  #waitForSocket(): void {
    const until = performance.now() + START_LIMIT;
    while (!this.#listens()) {
      if (performance.now() > until || !this.alive) {
        throw new Error(`The back-end did not start: ${readFileSync(this.#log, "utf8")}`);
      }
      sleep(5);
    }
  }

  /** The path is there a moment before anybody listens. */
  #listens(): boolean {
    try {
      connectUnix(this.socket).close();
      return true;
    } catch {
      return false;
    }
  }

  /** False also for a process that ended and was not waited for yet. */
  get alive(): boolean {
    try {
      const text = readFileSync(`/proc/${this.pid}/stat`, "utf8");
      return !/^[ZX]$/.test(text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3));
    } catch {
      return false;
    }
  }

  holdings(): Holdings {
    const [vm, rss] = readFileSync(`/proc/${this.pid}/statm`, "utf8").split(" ");
    const fds = readdirSync(`/proc/${this.pid}/fd`).length;
    return { fds, vmSize: Number(vm) * 4, rss: Number(rss) * 4 };
  }

  /** Open descriptors by what they refer to, as `anon_inode:[eventfd]`. */
  descriptors(): Map<string, number> {
    const found = new Map<string, number>();
    for (const name of readdirSync(`/proc/${this.pid}/fd`)) {
      try {
        const link = readlinkSync(`/proc/${this.pid}/fd/${name}`).replace(/:\[\d+\]$/, "");
        found.set(link, (found.get(link) ?? 0) + 1);
      } catch {
        // Closed since.
      }
    }
    return found;
  }

  /** Mappings in all, and bytes of those that a front-end sent: neighbours count as one. */
  mappings(): { all: number; guest: number } {
    const lines = readFileSync(`/proc/${this.pid}/maps`, "utf8").split("\n");
    const guest = lines.filter((line) => line.includes("memfd:fuzz"));
    const sizes = guest.map((line) => {
      const [start, end] = line.slice(0, line.indexOf(" ")).split("-");
      return Number.parseInt(end!, 16) - Number.parseInt(start!, 16);
    });
    return { all: lines.length, guest: sizes.reduce((sum, size) => sum + size, 0) };
  }

  /** The lines that were logged since the last call. */
  newLines(): string[] {
    const file = openSync(this.#log, "r");
    try {
      const { size } = fstatSync(file);
      const data = Buffer.alloc(size - this.#logAt);
      readSync(file, data, 0, data.length, this.#logAt);
      const end = data.lastIndexOf(10) + 1;
      this.#logAt += end;
      const lines = data.toString("utf8", 0, end).split("\n").slice(0, -1);
      // What is written in between is lost; nobody is connected who could cause much.
      if (end === data.length && this.#logAt > LOG_LIMIT) {
        truncateSync(this.#log, 0);
        this.#logAt = 0;
      }
      return lines;
    } finally {
      closeSync(file);
    }
  }

  /** The end of the log. */
  lastWords(lines = 20): string {
    return readFileSync(this.#log, "utf8")
      .split("\n")
      .slice(-lines - 1)
      .join("\n");
  }

  /** Ends the process. False when it had to be killed. */
  stop(): boolean {
    if (this.alive) process.kill(this.pid, "SIGTERM");
    for (const until = performance.now() + STOP_LIMIT; this.alive && performance.now() < until; ) {
      sleep(2);
    }
    const ended = !this.alive;
    if (!ended) process.kill(this.pid, "SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
    return ended;
  }
}
