import { readFileSync } from "node:fs";
import { defineConfig } from "tsup";
import { workerModules } from "./core/worker-modules.ts";

const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
  exports: Record<string, string | { default: string }>;
};

/** Modules that are loaded by their URL and not by an import: programs, and Workers. */
const loaded = ["cli", "conventions/embedded", ...workerModules];

const exported = Object.values(manifest.exports)
  .filter((target) => typeof target === "object")
  .map((target) => target.default.replace(/^\.\/dist\/(.*)\.js$/, "$1"));

/** Output file -> source, both named as in the source tree. */
function entries(names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, `${name}.ts`]));
}

export default defineConfig({
  entry: entries([...exported, ...loaded]),
  dts: {
    entry: entries(exported),
    // tsup still sets baseUrl, which TypeScript 6 calls deprecated.
    compilerOptions: { ignoreDeprecations: "6.0" },
  },
  format: "esm",
  target: "es2022",
  platform: "neutral",
  // What both runtimes share must be one module in the output too: there is one libc and one loop.
  splitting: true,
  // Modules of the runtimes themselves, which have a scheme.
  external: [/^[a-z]+:/],
  // Loading its many small files one by one costs more than all of the rest of a start.
  noExternal: ["typebox", "fast-png"],
  clean: true,
  outDir: "dist",
});
