/** Where this package lies, whether it runs from its sources, from `dist/` or in a program of one file. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { runtime } from "../ffi/mod.ts";

function findRoot(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    if (folder === dirname(folder)) throw new Error(`Cannot find package.json above ${start}`);
  }
}

const here = fileURLToPath(import.meta.url);
const fromSource = here.endsWith(".ts");

/** The package's root folder. A program of one file has none. */
export const packageRoot: string = runtime.programModules === null ? findRoot(dirname(here)) : "/";

/** The folder of the package's modules. */
export const moduleRoot: string = fromSource ? packageRoot : join(packageRoot, "dist");

/** The file of one of the package's modules, named without its ending, as `core/pump-worker`. */
export function modulePath(name: string): string {
  return join(moduleRoot, `${name}${fromSource ? ".ts" : ".js"}`);
}

/** The URL of one of the package's modules, named without its ending, as `core/pump-worker`. */
export function moduleUrl(name: string): URL {
  const { programModules } = runtime;
  if (programModules !== null) return new URL(`${name}.js`, programModules);
  return pathToFileURL(modulePath(name));
}
