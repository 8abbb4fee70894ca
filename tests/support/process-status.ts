/** What the kernel knows about a process. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** The fields of /proc/PID/stat from the state on; none when there is no such process. */
function statFields(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}

/** False also for a process that has ended and was not waited for yet. */
export function isAlive(pid: number): boolean {
  const [state] = statFields(pid);
  if (state === undefined) return false;
  if (state !== "Z" && state !== "X") return true;
  try {
    // Descriptors stay open until the last thread is gone, which need not be the first one.
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

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

/** The program file that a process runs. */
export const programOf = (pid: number): string => readlinkSync(`/proc/${pid}/exe`);

/**
 * Tells whether somebody listens on a path; the file alone may be a killed program's. `pid`: a process in the
 * network namespace that the listener is in, for each has a list of sockets of its own.
 */
export function isListening(path: string, pid: number): boolean {
  if (!isAlive(pid)) return false;
  // Columns: Num RefCount Protocol Flags Type St Inode Path. This flag marks a listener.
  const ACCEPTING = 0x10000;
  const lines = readFileSync(`/proc/${pid}/net/unix`, "utf8").split("\n");
  return lines.some((line) => {
    const fields = line.trim().split(/\s+/);
    return fields[7] === path && (Number.parseInt(fields[3]!, 16) & ACCEPTING) !== 0;
  });
}
