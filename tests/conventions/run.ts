/** Runs programs to their end. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { runtime } from "../../ffi/mod.ts";
import { root } from "../support/program.ts";

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  /** Added to the environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** The environment of a program that runs under the runtime of this test. */
export function environment(changes: RunOptions["env"] = {}): Record<string, string> {
  const merged = { ...process.env, RINGSIDE_RUNTIME: runtime.name, ...changes };
  return Object.fromEntries(
    Object.entries(merged).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}

/** Runs a command to its end, which must come within 30 s. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Outcome {
  const { cwd = root, env } = options;
  const result = spawnSync(command, args, {
    cwd,
    env: environment(env),
    encoding: "utf8",
    timeout: 30_000,
  });
  if (result.error !== undefined) throw result.error;
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** Runs one of our launchers, by its name in bin/. */
export function launch(name: string, args: readonly string[], options?: RunOptions): Outcome {
  return run(join(root, "bin", name), args, options);
}
