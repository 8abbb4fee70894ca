/** The package's version and licence, from its package.json. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../core/package.ts";

export function packageVersion(): string {
  const manifest = readFileSync(join(packageRoot, "package.json"), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
