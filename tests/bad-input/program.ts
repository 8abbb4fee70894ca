/** A back-end process under test: its life, its resources and its log. All without waiting for events. */
import { spawn } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runtime } from "../../ffi/mod.ts";
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

const START_LIMIT = 15_000;
const STOP_LIMIT = 5_000;
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
  readonly #folder: string;
  readonly #log: string;

  constructor(options: StartOptions = {}) {
    const { device = "blk", size = DISK_SIZE, folder = tmpdir(), prelude = ":" } = options;
    this.#folder = mkdtempSync(join(folder, "ringside-bad-input-"));
    this.socket = join(this.#folder, "socket");
    this.image = join(this.#folder, "disk.img");
    this.#log = join(this.#folder, "log");
    writeFileSync(this.image, "");
    truncateSync(this.image, size);
    const module = modules[device];
    const command =
      module !== undefined
        ? [`${launchers}ringside`, module]
        : [`${launchers}vhost-user-blk`, `--blk-file=${this.image}`, "--serial=bad-input"];
    if (device === "read-only") command.push("--read-only");
    // At this level no reason is left out, however fast they come.
    command.push(`--socket-path=${this.socket}`, "--log-level=debug");
    if (options.iommu) command.push("--iommu");
    // The shell becomes the program, so the pid is the program's.
    const script = `${prelude}; exec "$@" 2>"$0"`;
    const child = spawn("sh", ["-c", script, this.#log, ...command], {
      stdio: "ignore",
      env: { ...process.env, RINGSIDE_RUNTIME: runtime.name },
    });
    child.unref();
    this.pid = child.pid!;
    this.#waitForSocket();
  }

  #waitForSocket(): void {
    const until = performance.now() + START_LIMIT;
    while (!readdirSync(this.#folder).includes("socket")) {
      if (performance.now() > until || !this.alive) {
        throw new Error(`The back-end did not start: ${this.log().join("\n")}`);
      }
      sleep(5);
    }
  }

  /** False also for a process that ended and was not waited for yet. */
  get alive(): boolean {
    return !/^[ZX]$/.test(this.#stat()[0] ?? "Z");
  }

  /** The fields of /proc/PID/stat from the state on. */
  #stat(): string[] {
    try {
      const text = readFileSync(`/proc/${this.pid}/stat`, "utf8");
      return text.slice(text.lastIndexOf(")") + 2).split(" ");
    } catch {
      return [];
    }
  }

  /** True when the process sleeps: among several short spans there is one without much work. */
  idle(): boolean {
    for (let i = 0; i < 10; i++) {
      const before = this.cpuTicks();
      sleep(100);
      // 10 ticks is all of the time; a process that waits needs none or one.
      if (this.cpuTicks() - before <= 2) return true;
    }
    return false;
  }

  /** User and system time so far, in units of 10 ms. */
  cpuTicks(): number {
    const fields = this.#stat();
    return Number(fields[11]) + Number(fields[12]);
  }

  /** The lines of the log, from line `from` on. */
  log(from = 0): string[] {
    return readFileSync(this.#log, "utf8").split("\n").slice(0, -1).slice(from);
  }

  holdings(): Holdings {
    const fds = new Map<string, number>();
    for (const name of readdirSync(`/proc/${this.pid}/fd`)) {
      const target = this.#target(name);
      if (target !== null) fds.set(target, (fds.get(target) ?? 0) + 1);
    }
    const maps = readFileSync(`/proc/${this.pid}/maps`, "utf8").split("\n");
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    return {
      fds,
      guestMaps: maps.filter((line) => line.includes("/memfd:bad-input")).length,
      maps: maps.length,
      vmSize: Number(/VmSize:\s+(\d+)/.exec(status)![1]),
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

  #target(fd: string): string | null {
    try {
      return readlinkSync(`/proc/${this.pid}/fd/${fd}`).replace(/:\[\d+\]$/, "");
    } catch {
      return null;
    }
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
  stop(signal: NodeJS.Signals = "SIGTERM"): number {
    const start = performance.now();
    if (this.alive) process.kill(this.pid, signal);
    while (this.alive && performance.now() - start < STOP_LIMIT) sleep(2);
    const took = this.alive ? -1 : performance.now() - start;
    if (this.alive) process.kill(this.pid, "SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
    return took;
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
