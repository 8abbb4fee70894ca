/**
 * How libvirt finds back-ends: the folders, which files of them count, and what makes it give up on
 * all of them (libvirt: src/qemu/qemu_interop_config.c, qemu_vhost_user.c).
 */
import { Buffer } from "node:buffer";
import { accessSync, constants, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Errors } from "typebox/schema";
import { descriptorSchema, isDeviceType } from "./descriptor.ts";

/** Larger files are an error. */
const LARGEST_FILE = 1024 * 1024;

const FOLDER = join("qemu", "vhost-user");

export interface SearchSettings {
  /** libvirt's own prefix. */
  readonly prefix?: string;
  /** The system daemon, which runs as root, does not look into a home folder. */
  readonly privileged?: boolean;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** The folders that libvirt reads. A file in a later one replaces those of the same name. */
export function searchPath(settings: SearchSettings = {}): string[] {
  const { prefix = "/usr", privileged = process.getuid?.() === 0, env = process.env } = settings;
  const etc = prefix === "/usr" ? "/etc" : join(prefix, "etc");
  const folders = [join(prefix, "share", FOLDER), join(etc, FOLDER)];
  return privileged ? folders : [...folders, userFolder(env)];
}

/** The folder that a user's own libvirt reads last. */
export function userFolder(env: SearchSettings["env"] = process.env): string {
  return join(env.XDG_CONFIG_HOME || join(env.HOME ?? "/", ".config"), FOLDER);
}

export interface FoundDescriptor {
  /** The file's name, by which files are ordered. */
  readonly name: string;
  readonly path: string;
  /** An empty file hides those of the same name in earlier folders. */
  readonly masks: boolean;
  /** False for a file that cannot even be examined: a later one of the same name does not help. */
  readonly accessible: boolean;
  readonly type: string | null;
  readonly binary: string | null;
  /** Why libvirt finds no back-end at all as long as this file is there. */
  readonly error: string | null;
  /** What else is wrong with it. */
  readonly warnings: readonly string[];
}

/** A file that does not count, for a later folder has one of its name. */
export interface HiddenDescriptor {
  readonly path: string;
  readonly by: FoundDescriptor;
}

export interface Discovery {
  /** The files that count, in the order in which libvirt tries them. */
  readonly found: readonly FoundDescriptor[];
  readonly hidden: readonly HiddenDescriptor[];
  /** The first descriptor of each type. Empty when an error stops discovery. */
  readonly chosen: ReadonlyMap<string, FoundDescriptor>;
}

function inspect(name: string, path: string, size: number): FoundDescriptor {
  const masks = size === 0;
  const base = { name, path, masks, accessible: true, type: null, binary: null, warnings: [] };
  if (masks) return { ...base, error: null };
  if (size > LARGEST_FILE) return { ...base, error: `it has more than ${LARGEST_FILE} bytes` };
  let value: unknown;
  try {
    value = parseStrictly(readFileSync(path));
  } catch (error) {
    return { ...base, error: `it cannot be read as JSON: ${(error as Error).message}` };
  }
  const { type, binary } = (value ?? {}) as Record<string, unknown>;
  if (typeof type !== "string") return { ...base, error: 'it has no "type"' };
  if (!isDeviceType(type)) return { ...base, type, error: `its type "${type}" is unknown` };
  const known = typeof binary === "string" ? binary : null;
  return { ...base, type, binary: known, error: null, warnings: warningsOf(value, known) };
}

/** As libvirt parses JSON: bytes that are no UTF-8 and a name twice in one object are errors too. */
function parseStrictly(bytes: Uint8Array): unknown {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  const value: unknown = JSON.parse(text);
  // The text is valid from here on: only strings, brackets and commas matter.
  const open: (Set<string> | null)[] = [];
  for (const [token, string, colon] of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (colon !== undefined) {
      const name = JSON.parse(string!) as string;
      const names = open.at(-1)!;
      if (names.has(name)) throw new Error(`"${name}" is there twice`);
      names.add(name);
    }
  }
  return value;
}

function warningsOf(value: unknown, binary: string | null): string[] {
  const [, errors] = Errors(descriptorSchema, value);
  const warnings = errors.map(({ instancePath, message }) => {
    const where = instancePath === "" ? "" : `"${instancePath.slice(1)}" `;
    return `it differs from vhost-user.json: ${where}${message}`;
  });
  if (binary === null || !binary.startsWith("/")) return warnings;
  try {
    accessSync(binary, constants.X_OK);
  } catch {
    warnings.push(`its binary cannot be run: ${binary}`);
  }
  return warnings;
}

/** Files of a folder that libvirt looks at. A folder that does not exist has none. */
function listFolder(folder: string): FoundDescriptor[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new Error(`Cannot read ${folder}: ${(error as Error).message}`, { cause: error });
  }
  return names
    .filter((name) => !name.startsWith("."))
    .flatMap((name) => {
      const path = join(folder, name);
      try {
        const status = statSync(path);
        return status.isFile() ? [inspect(name, path, status.size)] : [];
      } catch (failure) {
        const missing = (failure as NodeJS.ErrnoException).code === "ENOENT";
        const error = missing ? "it is a link to nothing" : (failure as Error).message;
        const unknown = { type: null, binary: null, warnings: [] };
        return [{ name, path, masks: false, accessible: false, error, ...unknown }];
      }
    });
}

/** Reads the descriptors of some folders as libvirt does. */
export function discover(folders: readonly string[]): Discovery {
  const all = folders.flatMap(listFolder);
  const byName = new Map(all.map((file) => [file.name, file]));
  const counts = (file: FoundDescriptor) => byName.get(file.name) === file || !file.accessible;
  const found = all.filter(counts).sort((a, b) => Buffer.compare(bytesOf(a), bytesOf(b)));
  const hidden = all
    .filter((file) => !counts(file))
    .map(({ path, name }) => ({ path, by: byName.get(name)! }));
  const chosen = new Map<string, FoundDescriptor>();
  if (found.every(({ error }) => error === null)) {
    for (const file of found) {
      if (file.type !== null && !chosen.has(file.type)) chosen.set(file.type, file);
    }
  }
  return { found, hidden, chosen };
}

/** libvirt orders names as C strings. */
function bytesOf({ name }: FoundDescriptor): Uint8Array {
  return new TextEncoder().encode(name);
}
