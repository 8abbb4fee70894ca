/** Launchers: programs of one path, as libvirt needs them, that start a device. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { modulePath, moduleRoot, packageRoot } from "../core/package.ts";
import { workerModules } from "../core/worker-modules.ts";
import { runtime } from "../ffi/mod.ts";
import { publicModules } from "./load.ts";
import { packageVersion } from "./version.ts";

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

const head = '#!/bin/sh\n# Written by "ringside install".\n';

/** A launcher's text. It prefers the runtime that installed it, which PATH may not have later. */
export function launcherText(target: string): string {
  return `${head}runtime=${quote(process.execPath)}
if [ -z "$RINGSIDE_RUNTIME" ] && [ -x "$runtime" ]; then
  RINGSIDE_RUNTIME=$runtime
  export RINGSIDE_RUNTIME
fi
exec ${quote(join(packageRoot, "bin", "ringside"))} ${quote(target)} "$@"
`;
}

/** The text of a launcher that starts a device of a program of one file. */
export function embeddedLauncherText(program: string, device: string): string {
  const variables = Object.entries(runtime.environment).map(
    ([name, value]) => `export ${name}="\${${name}-${value}}"\n`,
  );
  return `${head}${variables.join("")}exec ${quote(program)} ${quote(device)} "$@"
`;
}

function entryText(own: Readonly<Record<string, string>>): string {
  const text = (value: string) => JSON.stringify(value);
  const rows = Object.entries(own).map(
    ([name, file]) => `  ${text(name)}: async () => (await import(${text(file)})).default,\n`,
  );
  return `import { runEmbedded } from ${text(modulePath("conventions/embedded"))};
const devices = {\n${rows.join("")}};
process.exit(await runEmbedded(${text(packageVersion())}, devices));
`;
}

/** One line for whatever a bundler throws. */
function reasonOf(error: unknown): string {
  const all = error instanceof AggregateError ? error.errors : [error];
  return all.map((each) => (each as Error)?.message ?? String(each)).join("; ");
}

/**
 * Makes a program of one file at `output`: the runtime, the devices that come with Ringside and those
 * of `own`, module URLs by name. It replaces one that may be running.
 */
export async function compileProgram(
  output: string,
  own: Readonly<Record<string, string>>,
): Promise<void> {
  if (runtime.compile === null) throw new Error(`Cannot compile programs under ${runtime.name}`);
  const folder = mkdtempSync(join(tmpdir(), "ringside-install-"));
  mkdirSync(dirname(output), { recursive: true });
  const draft = join(dirname(output), `.${basename(output)}.${process.pid}`);
  try {
    const entry = join(folder, "entry.mjs");
    const files = Object.entries(own).map(([name, url]) => [name, fileURLToPath(url)]);
    writeFileSync(entry, entryText(Object.fromEntries(files)));
    const specifiers = Object.entries(publicModules).map(([name, path]) => [
      name,
      modulePath(path),
    ]);
    await runtime.compile({
      entry,
      modules: workerModules.map(modulePath),
      root: moduleRoot,
      specifiers: Object.fromEntries(specifiers),
      output: draft,
    });
    renameSync(draft, output);
  } catch (error) {
    throw new Error(`Cannot compile ${output}: ${reasonOf(error)}`, { cause: error });
  } finally {
    rmSync(draft, { force: true });
    rmSync(folder, { recursive: true, force: true });
  }
}
