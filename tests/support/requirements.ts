/** Programs that a test needs and a machine may lack. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Whether what is missing makes tests fail instead of being skipped. */
const required = process.env.RINGSIDE_REQUIRE_ALL === "1" || Boolean(process.env.CI);

/** A reason to skip a test. Throws where everything must be there. */
function missing(what: string, hint: string): string {
  const reason = `${what} is not installed: ${hint}`;
  if (required) throw new Error(reason);
  return reason;
}

/**
 * The value of a test's `skip` option: false when `program --version` runs, otherwise the reason.
 * Throws where everything must be there.
 */
export function skipWithout(program: string, hint: string): string | false {
  const run = spawnSync(program, ["--version"], { stdio: "ignore" });
  return run.status === 0 ? false : missing(program, hint);
}

/** The same for a file. */
export function skipWithoutFile(path: string, hint: string): string | false {
  return existsSync(path) ? false : missing(path, hint);
}
