/** Programs that a test needs and a machine may lack. */
import { spawnSync } from "node:child_process";

/** Whether what is missing makes tests fail instead of being skipped. */
const required = process.env.RINGSIDE_REQUIRE_ALL === "1" || Boolean(process.env.CI);

/**
 * The value of a test's `skip` option: false when `program --version` runs, otherwise the reason.
 * Throws where everything must be there.
 */
export function skipWithout(program: string, hint: string): string | false {
  const run = spawnSync(program, ["--version"], { stdio: "ignore" });
  if (run.status === 0) return false;
  const reason = `${program} is not installed: ${hint}`;
  if (required) throw new Error(reason);
  return reason;
}
