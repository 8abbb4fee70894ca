/**
 * Finds the module that a package specifier means to a given folder. Both runtimes resolve a
 * dynamic import as seen from the importing file, which would be one of ours.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

type Exports = string | null | { readonly [key: string]: Exports };

interface Manifest {
  readonly exports?: Exports;
  readonly module?: string;
  readonly main?: string;
}

const conditions = new Set(["import", "module", "default"]);

/** The first target whose conditions hold. */
function target(exports: Exports): string | undefined {
  if (typeof exports === "string") return exports;
  if (exports === null) return undefined;
  for (const [condition, value] of Object.entries(exports)) {
    const found = conditions.has(condition) ? target(value) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function entry({ exports, module, main }: Manifest, subpath: string): string | undefined {
  if (exports === undefined) {
    return subpath === "." ? (module ?? main ?? "index.js") : subpath;
  }
  const bySubpath = typeof exports === "object" && exports !== null && "." in exports;
  const named =
    bySubpath || (typeof exports === "object" && exports !== null && subpath in exports);
  if (!named) return subpath === "." ? target(exports) : undefined;
  return target((exports as Record<string, Exports>)[subpath] ?? null);
}

/**
 * The file of `name`, `name/sub` or `@scope/name/sub`, looked up in the node_modules folders from
 * `folder` upwards. Undefined when there is none.
 */
export function resolvePackage(specifier: string, folder: string): string | undefined {
  const parts = specifier.split("/");
  const name = parts.splice(0, specifier.startsWith("@") ? 2 : 1).join("/");
  const subpath = parts.length === 0 ? "." : `./${parts.join("/")}`;
  for (let above = folder; ; above = dirname(above)) {
    const root = join(above, "node_modules", name);
    const manifest = join(root, "package.json");
    if (existsSync(manifest)) {
      const file = entry(JSON.parse(readFileSync(manifest, "utf8")) as Manifest, subpath);
      return file === undefined ? undefined : join(root, file);
    }
    if (above === dirname(above)) return undefined;
  }
}
