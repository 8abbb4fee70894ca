/** What the kernel knows of a program under test. */
import { readdirSync, readFileSync } from "node:fs";

/** The fields of /proc/PID/stat from the state on; none when there is no such process. */
export function statFields(pid: number): string[] {
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

/**
 * Tells whether somebody listens on a path; the file alone may be a killed program's. Found without
 * connecting: a program that serves one connection only would take that for it. `pid`: a process in the
 * network namespace of the listener, for each has a list of sockets of its own.
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
