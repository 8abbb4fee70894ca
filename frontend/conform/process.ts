/** What the kernel knows of a program under test. */
import { readdirSync, readFileSync } from "node:fs";

/** False also for a process that has ended and was not waited for yet. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const state = stat.slice(stat.lastIndexOf(")") + 2)[0];
    if (state !== "Z" && state !== "X") return true;
    // Descriptors stay open until the last thread is gone, which need not be the first one.
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

/**
 * Tells whether somebody listens on a path; the file alone may be a killed program's. Found without
 * connecting: a program that serves one connection only would take that for it.
 */
export function isListening(path: string): boolean {
  // Columns: Num RefCount Protocol Flags Type St Inode Path. This flag marks a listener.
  const ACCEPTING = 0x10000;
  const lines = readFileSync("/proc/net/unix", "utf8").split("\n");
  return lines.some((line) => {
    const fields = line.trim().split(/\s+/);
    return fields[7] === path && (Number.parseInt(fields[3]!, 16) & ACCEPTING) !== 0;
  });
}
