/** A back-end process under fuzzing: its life, what it holds, and what it logs. Nothing waits for events. */
import { closeSync, fstatSync, openSync, readFileSync, readSync, truncateSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { DraftName } from "../../core/drafts.ts";
import { Folder } from "../support/folder.ts";
import { launch, stop, waitForListener } from "../support/launch.ts";
import {
  fdCount,
  isAlive,
  mappedBytes,
  mappingsOf,
  openFiles,
  residentSize,
  vmSize,
} from "../support/process-status.ts";

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
  readonly #folder = new Folder();
  readonly #log: string;
  #logAt = 0;

  /** Starts the process, under the runtime that runs this. */
  constructor(variant: Variant) {
    const { device } = variant;
    this.variant = variant;
    this.socket = this.#folder.at("socket");
    this.image = this.#folder.image(DISK_SIZE);
    this.#log = this.#folder.at("log");
    const command = [
      ...commands[device](this.image),
      `--socket-path=${this.socket}`,
      ...optionsOf(variant),
    ];
    const child = launch(command, { log: this.#log });
    child.unref();
    this.pid = child.pid!;
    waitForListener(this.pid, this.socket, () => this.lastWords());
  }

  get alive(): boolean {
    return isAlive(this.pid);
  }

  holdings(): Holdings {
    const { pid } = this;
    return { fds: fdCount(pid), vmSize: vmSize(pid), rss: residentSize(pid) };
  }

  /** Open descriptors by what they refer to, as `anon_inode:[eventfd]`. */
  descriptors(): Map<string, number> {
    return openFiles(this.pid);
  }

  /** Mappings in all, and bytes of those that a front-end sent: neighbours count as one. */
  mappings(): { all: number; guest: number } {
    return { all: mappingsOf(this.pid), guest: mappedBytes(this.pid, "memfd:fuzz") };
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
    const ended = stop(this.pid);
    this.#folder[Symbol.dispose]();
    return ended;
  }
}
