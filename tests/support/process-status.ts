/** What the kernel knows about a process. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

import { statFields } from "../../frontend/conform/process.ts";

export { isAlive, isListening } from "../../frontend/conform/process.ts";

/** User and system time so far, in units of 10 ms. */
export function cpuTicks(pid: number): number {
  const fields = statFields(pid);
  return Number(fields[11]) + Number(fields[12]);
}

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

const mappings = (pid: number): string[] =>
  readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").slice(0, -1);

/** Mappings of a file whose name contains `part`, or all of them. */
export function mappingsOf(pid: number, part = ""): number {
  return mappings(pid).filter((line) => line.includes(part)).length;
}

/** Bytes of such mappings. */
export function mappedBytes(pid: number, part: string): number {
  let bytes = 0;
  for (const line of mappings(pid)) {
    if (!line.includes(part)) continue;
    const [start, end] = line.slice(0, line.indexOf(" ")).split("-");
    bytes += Number.parseInt(end!, 16) - Number.parseInt(start!, 16);
  }
  return bytes;
}

function statusField(pid: number, name: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)![1]);
}

/** Address space in KiB. */
export const vmSize = (pid: number): number => statusField(pid, "VmSize");

/** Memory in use in KiB. */
export const residentSize = (pid: number): number => statusField(pid, "VmRSS");

/** Memory of its own, without what it shares, in KiB. */
export const ownSize = (pid: number): number => statusField(pid, "RssAnon");

/** The program file that a process runs. */
export const programOf = (pid: number): string => readlinkSync(`/proc/${pid}/exe`);
