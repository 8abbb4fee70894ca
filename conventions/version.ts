/** The package's version and licence, from its package.json. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../core/package.ts";

let embedded: string | null = null;

/** Says the version where there is no package.json: in a program of one file. */
export function embedVersion(version: string): void {
  embedded = version;
}

export function packageVersion(): string {
  if (embedded !== null) return embedded;
  const manifest = readFileSync(join(packageRoot, "package.json"), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
