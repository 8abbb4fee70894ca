/** Where this package lies, whether it runs from its sources or from `dist/`. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

function findRoot(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    if (folder === dirname(folder)) throw new Error(`Cannot find package.json above ${start}`);
  }
}

const here = fileURLToPath(import.meta.url);
const fromSource = here.endsWith(".ts");

/** The package's root folder. */
export const packageRoot: string = findRoot(dirname(here));

/** The URL of one of the package's modules, named without its ending, as `core/pump-worker`. */
export function moduleUrl(name: string): URL {
  const path = fromSource ? `${name}.ts` : join("dist", `${name}.js`);
  return pathToFileURL(join(packageRoot, path));
}
