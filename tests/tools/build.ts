/** Compiles the C programs and libraries that tests and benchmarks use. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, ".cache", "tools");
const compiler = process.env.CC || "cc";

/** Why nothing can be compiled here, or null when it can. For the reason of a skipped test. */
export function compilerMissing(): string | null {
  const probe = spawnSync(compiler, ["--version"], { stdio: "ignore" });
  return probe.status === 0 ? null : `no C compiler: "${compiler} --version" does not run`;
}

export interface BuildOptions {
  /** Makes a shared library, to be loaded through FFI, in place of a program. */
  readonly shared?: boolean;
  /** More arguments for the compiler, as `-mno-avx`. They go after the source: `-l` works too. */
  readonly flags?: readonly string[];
}

/**
 * Compiles `source`, a path from the repository's root, when its result is missing or older.
 * Returns the path of the program or library. Throws with the compiler's own words when it fails.
 */
export function buildTool(source: string, { shared = false, flags = [] }: BuildOptions = {}) {
  const input = join(root, source);
  const output = join(folder, basename(source, ".c") + (shared ? ".so" : ""));
  if (existsSync(output) && statSync(output).mtimeMs >= statSync(input).mtimeMs) return output;
  mkdirSync(folder, { recursive: true });
  // Several test files may build the same tool at once; each result appears whole or not at all.
  const partial = `${output}.${process.pid}`;
  const kind = shared ? ["-shared", "-fPIC"] : [];
  const options = ["-O2", "-pthread", "-Wall", "-Wextra", ...kind];
  const run = spawnSync(compiler, [...options, "-o", partial, input, ...flags], {
    encoding: "utf8",
  });
  if (run.error !== undefined || run.status !== 0) {
    const why = run.error?.message ?? run.stderr.trim();
    throw new Error(
      `Cannot compile ${source} with "${compiler}" (set CC to use another compiler): ${why}`,
    );
  }
  renameSync(partial, output);
  return output;
}
