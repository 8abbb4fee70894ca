/** passt in a network namespace: a stream peer that carries a guest's connections on. */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { dirname } from "node:path";
import { isListening } from "../support/process-status.ts";
import { type Namespace, tapProblem } from "./namespace.ts";

/** What passt finds in the namespace, and gives its guest. */
export const passtAddress = "192.0.2.2";
/** The gateway that it tells its guest of, by which the namespace's own servers are reached. */
export const passtGateway = "192.0.2.1";

/** Why there can be no passt here, or undefined. Throws where nothing may be skipped. */
export function passtProblem(): string | undefined {
  if (spawnSync("passt", ["--version"]).error === undefined) return tapProblem();
  if (process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error("no passt");
  return "no passt";
}

/** Prepares a namespace, and gives the command of a passt that listens on a socket in a folder of ours. */
export function passtCommand(
  namespace: Namespace,
  socket: string,
  ...options: readonly string[]
): string[] {
  namespace.tap("up0", `${passtAddress}/24`);
  namespace.ip("route", "add", "default", "via", passtGateway);
  // It gives up being root.
  chmodSync(dirname(socket), 0o777);
  return namespace.command("passt", "-f", "-s", socket, ...options);
}

/** True when it listens, null when it does not yet. */
export function passtListens(socket: string, pid: number): true | null {
  try {
    return isListening(socket, pid) || null;
  } catch {
    return null;
  }
}
