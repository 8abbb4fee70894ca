/** Copies of the back-end with one mistake each: every one must be caught by the check for it. */
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtime } from "../../ffi/mod.ts";
import { root } from "../support/program.ts";

export interface Mutation {
  readonly name: string;
  /** Ids of the checks that must fail. */
  readonly caughtBy: readonly string[];
  /** How often the checks may be tried, for mistakes that only some moments show; once by default. */
  readonly attempts?: number;
  /** Needs a disk that has requests in flight. */
  readonly slow?: boolean;
  /** What else the program is started with. */
  readonly option?: string;
  /** The device in place of a disk. */
  readonly device?: "blk" | "net";
  /** File, and what to replace in it by what, wherever it stands. It stands somewhere. */
  readonly edits: readonly (readonly [file: string, from: string, to: string])[];
}

const folder = join(root, ".cache", "mutants", `conform-${runtime.name}-${process.pid}`);
const parts = ["bin", "core", "conventions", "devices", "ffi", "frontend"];
const files = ["cli.ts", "mod.ts", "package.json", "deno.json"];

/** Writes the program with the mistake. Returns its folder of launchers. */
export function build({ name, edits }: Mutation): string {
  const copy = join(folder, name.replace(/[^a-z0-9]+/gi, "-"));
  mkdirSync(copy, { recursive: true });
  for (const part of [...parts, ...files]) {
    cpSync(join(root, part), join(copy, part), { recursive: true, verbatimSymlinks: true });
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  for (const [file, from, to] of edits) {
    const text = readFileSync(join(copy, file), "utf8");
    if (!text.includes(from)) {
      throw new Error(`Cannot apply "${name}": ${file} does not have this: ${from}`);
    }
    writeFileSync(
      join(copy, file),
      text.replaceAll(from, () => to),
    );
  }
  return join(copy, "bin");
}

export function removeMutants(): void {
  rmSync(folder, { recursive: true, force: true });
}
