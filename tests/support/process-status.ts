/** What the kernel knows about a process. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export { isAlive, isListening } from "../../frontend/conform/process.ts";

/** Open descriptors by what they refer to, as `anon_inode:[eventfd]`. */
export function openFiles(pid: number): Map<string, number> {
  const files = new Map<string, number>();
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${name}`).replace(/:\[\d+\]$/, "");
      files.set(target, (files.get(target) ?? 0) + 1);
    } catch {
      // Closed since the folder was read.
    }
  }
  return files;
}

export function fdCount(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Mappings of a file whose name contains `part`. */
export function mappingsOf(pid: number, part: string): number {
  const maps = readFileSync(`/proc/${pid}/maps`, "utf8");
  return maps.split("\n").filter((line) => line.includes(part)).length;
}

function statusField(pid: number, name: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)![1]);
}

/** Address space in KiB. */
export const vmSize = (pid: number): number => statusField(pid, "VmSize");

/** Memory in use in KiB. */
export const residentSize = (pid: number): number => statusField(pid, "VmRSS");

/** The program file that a process runs. */
export const programOf = (pid: number): string => readlinkSync(`/proc/${pid}/exe`);
