/**
 * Probes of what a host can do: each is made by the program itself, started once more, so that nothing
 * that goes wrong there, a crash or a deadlock in a driver, is the asking program's trouble.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../core/package.ts";
import { runtime } from "../ffi/mod.ts";

/** How long an attempt may take, in milliseconds. */
const LIMIT_MS = 5000;

/**
 * Starts this program once more, with `--probe=NAME` in place of its options. False when the probe fails,
 * or does not end in time.
 */
export function attemptElsewhere(name: string): boolean {
  const [device = ""] = process.argv.slice(2);
  const whole = runtime.programModules !== null;
  const program = whole ? process.execPath : join(packageRoot, "bin", "ringside");
  const env = whole ? process.env : { ...process.env, RINGSIDE_RUNTIME: process.execPath };
  const options = { env, stdio: "ignore", timeout: LIMIT_MS, killSignal: "SIGKILL" } as const;
  return spawnSync(program, [device, `--probe=${name}`], options).status === 0;
}
