/** A back-end process under test: its life, its resources and its log. All without waiting for events. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Folder } from "../support/folder.ts";
import { launch, stop, waitForListener } from "../support/launch.ts";
import { cpuTicks, isAlive, mappingsOf, openFiles, vmSize } from "../support/process-status.ts";
import { sleep } from "./client.ts";

export type DeviceName = "blk" | "read-only" | "holding" | "parts";

export interface StartOptions {
  readonly device?: DeviceName;
  /** Bytes of the disk's image. */
  readonly size?: number;
  /** Where the image lies; the folder for temporary files by default. */
  readonly folder?: string;
  /** Shell commands that run first, as `ulimit -n 64`. */
  readonly prelude?: string;
  /** Offer ACCESS_PLATFORM. */
  readonly iommu?: boolean;
}

export const DISK_SIZE = 64 * 1024 * 1024;

/** How long descriptors and mappings may take to settle after a connection ends. */
const SETTLE_LIMIT = 5_000;
const launchers = fileURLToPath(new URL("../../bin/", import.meta.url));
/** Devices of the tests' own. */
const modules: Readonly<Partial<Record<DeviceName, string>>> = {
  holding: fileURLToPath(new URL("holding-disk.ts", import.meta.url)),
  parts: fileURLToPath(new URL("../support/parts-disk.ts", import.meta.url)),
};

/** What a process holds. */
export interface Holdings {
  /** Open descriptors by what they refer to, as `anon_inode:[eventfd]`. */
  readonly fds: ReadonlyMap<string, number>;
  /** Mappings of memory that came from a front-end. */
  readonly guestMaps: number;
  readonly maps: number;
  /** Address space in KiB. */
  readonly vmSize: number;
}

export class Program {
  readonly socket: string;
  readonly image: string;
  readonly pid: number;
  readonly #folder: Folder;
  readonly #log: string;

  constructor(options: StartOptions = {}) {
    const { device = "blk", size = DISK_SIZE, folder, prelude } = options;
    this.#folder = new Folder(folder);
    this.socket = this.#folder.at("socket");
    this.image = this.#folder.image(size);
    this.#log = this.#folder.at("log");
    const module = modules[device];
    const command =
      module !== undefined
        ? [`${launchers}ringside`, module]
        : [`${launchers}vhost-user-blk`, `--blk-file=${this.image}`, "--serial=bad-input"];
    if (device === "read-only") command.push("--read-only");
    // At this level no reason is left out, however fast they come.
    command.push(`--socket-path=${this.socket}`, "--log-level=debug");
    if (options.iommu) command.push("--iommu");
    const child = launch(command, { log: this.#log, prelude });
    child.unref();
    this.pid = child.pid!;
    waitForListener(this.pid, this.socket, () => this.log().join("\n"));
  }

  get alive(): boolean {
    return isAlive(this.pid);
  }

  /** True when the process sleeps: among several short spans there is one without much work. */
  idle(): boolean {
    for (let i = 0; i < 10; i++) {
      const before = cpuTicks(this.pid);
      sleep(100);
      // 10 ticks is all of the time; a process that waits needs none or one.
      if (cpuTicks(this.pid) - before <= 2) return true;
    }
    return false;
  }

  /** The lines of the log, from line `from` on. */
  log(from = 0): string[] {
    return readFileSync(this.#log, "utf8").split("\n").slice(0, -1).slice(from);
  }

  holdings(): Holdings {
    return {
      fds: openFiles(this.pid),
      guestMaps: mappingsOf(this.pid, "/memfd:bad-input"),
      maps: mappingsOf(this.pid),
      vmSize: vmSize(this.pid),
    };
  }

  /** What the process holds while nobody is connected. */
  settled(): Holdings {
    let last = this.holdings();
    for (const until = performance.now() + SETTLE_LIMIT; performance.now() < until; ) {
      sleep(30);
      const now = this.holdings();
      if (now.guestMaps === 0 && compare(last, now).length === 0) return now;
      last = now;
    }
    throw new Error("The back-end does not come to rest");
  }

  /** Waits until the process holds what it held before. Returns what differs, nothing if all is well. */
  differences(before: Holdings): string[] {
    const until = performance.now() + SETTLE_LIMIT;
    for (;;) {
      const found = compare(before, this.holdings());
      if (found.length === 0 || performance.now() > until) return found;
      sleep(10);
    }
  }

  /** Ends the process. Returns the milliseconds it took, -1 when it had to be killed. */
  stop(signal?: NodeJS.Signals): number {
    const start = performance.now();
    const ended = stop(this.pid, signal);
    const took = performance.now() - start;
    this.#folder[Symbol.dispose]();
    return ended ? took : -1;
  }
}

/**
 * Room for the runtime's own heaps, in KiB and in mappings: V8 lets the garbage of a thousand short
 * sessions grow to some 200 MiB. Guest memory is counted exactly; its ranges, where they stay mapped
 * without a file, have 8 MiB each.
 */
const VM_SLACK = 512 * 1024;
const MAPS_SLACK = 1500;

function compare(before: Holdings, now: Holdings): string[] {
  const found: string[] = [];
  for (const target of new Set([...before.fds.keys(), ...now.fds.keys()])) {
    const was = before.fds.get(target) ?? 0;
    const is = now.fds.get(target) ?? 0;
    if (was !== is) found.push(`descriptors of ${target}: ${was} before, ${is} now`);
  }
  if (before.guestMaps !== now.guestMaps) {
    found.push(`guest memory mappings: ${before.guestMaps} before, ${now.guestMaps} now`);
  }
  if (now.maps > before.maps + MAPS_SLACK) {
    found.push(`mappings: ${before.maps} before, ${now.maps} now`);
  }
  if (now.vmSize > before.vmSize + VM_SLACK) {
    found.push(`address space in KiB: ${before.vmSize} before, ${now.vmSize} now`);
  }
  return found;
}
