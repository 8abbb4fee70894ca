/** From what a user names to a device: one of ours, a file, or a package. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import type { AnyDevice } from "../core/device.ts";
import { moduleUrl } from "../core/package.ts";
import { devices } from "../devices/mod.ts";
import { runtime } from "../ffi/mod.ts";
import { resolvePackage } from "./resolve.ts";
import { closest, UsageError } from "./usage.ts";

/** What a device file imports, and the module of this copy that it gets. */
export const publicModules: Readonly<Record<string, string>> = {
  "@ringside/vhost": "mod",
  "@ringside/vhost/devices/blk": "devices/blk/mod",
  "@ringside/vhost/devices/gpu": "devices/gpu/mod",
  "@ringside/vhost/devices/input": "devices/input/mod",
  "@ringside/vhost/devices/net": "devices/net/mod",
  "@ringside/vhost/devices/rng": "devices/rng/mod",
  "@ringside/vhost/frontend": "frontend/mod",
  "@ringside/vhost/ffi": "ffi/mod",
};

let provided = false;

function providePublicModules(): void {
  if (provided) return;
  provided = true;
  for (const [specifier, module] of Object.entries(publicModules)) {
    runtime.provide(specifier, moduleUrl(module));
  }
}

const looksLikePath = (name: string) => /^\.{0,2}\/|\.[cm]?[jt]s$/.test(name);

/**
 * What `name` means from any folder: a device of ours by its name, anything else by its URL.
 * Throws `UsageError` when there is no such thing.
 */
export function moduleOf(name: string): string {
  return Object.hasOwn(devices, name) ? name : locate(name);
}

/** The URL of the module that `name` stands for, as seen from the current folder. */
function locate(name: string): string {
  if (/^[a-z]+:/.test(name)) return name;
  if (looksLikePath(name)) {
    const path = resolve(name);
    if (!existsSync(path)) throw new UsageError(`Cannot load "${name}": there is no such file`);
    return pathToFileURL(path).href;
  }
  const path = resolvePackage(name, process.cwd());
  if (path !== undefined) return pathToFileURL(path).href;
  const guess = closest(name, Object.keys(devices));
  const hint = guess === undefined ? "" : `; did you mean ${guess}?`;
  throw new UsageError(
    `Unknown device "${name}": neither built in nor an installed package${hint}`,
  );
}

/** One line for whatever a runtime throws when a module cannot be loaded. */
function reasonOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const text = first instanceof Error ? first.message : String((first as Error)?.message ?? first);
  const position = (first as { position?: { line: number; column: number } })?.position;
  const where = position ? ` (line ${position.line}, column ${position.column})` : "";
  return (
    stripVTControlCharacters(text)
      .replace(/\s*\n\s*/g, " ")
      .trim() + where
  );
}

/** Says what a module's default export lacks to be a device, or null. */
function defectOf(value: unknown): string | null {
  if (value === undefined) return "it has no default export";
  const shape: Record<string, string> = {
    type: "string",
    id: "number",
    summary: "string",
    options: "object",
    features: "object",
    config: "object",
    open: "function",
  };
  if (typeof value !== "object" || value === null) return "its default export is not a device";
  const wrong = Object.entries(shape).find(
    ([key, type]) => typeof (value as Record<string, unknown>)[key] !== type,
  );
  return wrong === undefined ? null : `its default export is not a device: no ${wrong[0]}`;
}

/**
 * Loads a device by its name, the path of a module, or a package specifier. Throws `UsageError`
 * when there is no such thing, and `Error` when it cannot be loaded or is no device.
 */
export async function loadDevice(name: string): Promise<AnyDevice> {
  const known = Object.hasOwn(devices, name) ? devices[name] : undefined;
  if (known !== undefined) return known();
  const url = locate(name);
  providePublicModules();
  let module: { default?: unknown };
  try {
    module = await import(url);
  } catch (error) {
    throw new Error(`Cannot load "${name}": ${reasonOf(error)}`, { cause: error });
  }
  const defect = defectOf(module.default);
  if (defect !== null) throw new Error(`Cannot use "${name}" as a device: ${defect}`);
  return module.default as AnyDevice;
}
