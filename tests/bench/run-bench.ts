/** Short runs of benchmarks: they must work and report, whatever the figures of a busy machine are. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { runtime } from "../../ffi/mod.ts";
import { repository } from "../guest/lab.ts";
import { start } from "../guest/processes.ts";

/** Milliseconds that a short run may take. */
export const PATIENCE = 90_000;

/** Runs `bench/NAME.ts --quick` under the runtime of the test. Returns what it printed. */
export async function runBench(name: string, ...options: readonly string[]): Promise<string> {
  const child = start(`bench/${name}.ts`, [
    process.execPath,
    ...(runtime.name === "deno" ? ["run", "-A", "--no-check", "--v8-flags=--expose-gc"] : []),
    join(repository, `bench/${name}.ts`),
    "--quick",
    ...options,
  ]);
  const timer = setTimeout(() => child.stop("SIGKILL"), PATIENCE);
  const status = await child.ended;
  clearTimeout(timer);
  assert.equal(status, 0, child.log());
  return child.log();
}
