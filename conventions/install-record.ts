/**
 * What `ringside install` wrote, kept beside the launchers, so that `ringside uninstall` removes that
 * and nothing else.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Static, Type } from "typebox";
import { Check } from "typebox/schema";
import { writeWhole } from "./descriptor.ts";

const NAME = "installed.json";

const schema = Type.Object({
  /** Paths by device. Devices may share files. */
  devices: Type.Record(Type.String(), Type.Array(Type.String())),
  /** SHA-256 by path. */
  files: Type.Record(Type.String(), Type.String()),
  /** Folders that were made, outer ones first. */
  folders: Type.Array(Type.String()),
});

const digest = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** What became of a file: it may have been changed or removed by somebody else. */
export type Fate = "Removed" | "Kept" | "Missing";

export class InstallRecord {
  readonly #path: string;
  readonly #state: Static<typeof schema>;

  /** Reads the record of a folder of launchers. Throws when there is one that cannot be read. */
  constructor(launchers: string) {
    this.#path = join(launchers, NAME);
    this.#state = { devices: {}, files: {}, folders: [] };
    if (!existsSync(this.#path)) return;
    try {
      const state: unknown = JSON.parse(readFileSync(this.#path, "utf8"));
      if (!Check(schema, state)) throw new Error("it is no record of an installation");
      this.#state = state;
    } catch (error) {
      throw new Error(`Cannot read ${this.#path}: ${(error as Error).message}`, { cause: error });
    }
  }

  get devices(): string[] {
    return Object.keys(this.#state.devices);
  }

  /** Makes a folder, and notes which ones were not there. */
  makeFolder(path: string): void {
    const first = mkdirSync(path, { recursive: true });
    if (first === undefined) return;
    const made: string[] = [];
    for (let folder = path; folder.length >= first.length; folder = dirname(folder)) {
      made.unshift(folder);
    }
    this.#state.folders.push(...made);
  }

  /** Notes the files of a device, which are there. Returns those that it had before. */
  add(device: string, paths: readonly string[]): string[] {
    const before = this.#state.devices[device] ?? [];
    this.#state.devices[device] = [...paths];
    for (const path of paths) this.#state.files[path] = digest(path);
    this.#save();
    return before.filter((path) => !paths.includes(path));
  }

  /** Forgets a device. Returns its files. */
  forget(device: string): string[] {
    const paths = this.#state.devices[device] ?? [];
    delete this.#state.devices[device];
    return paths;
  }

  /** Removes a file that no device has any more, if it is as it was written. */
  remove(path: string): Fate | null {
    if (Object.values(this.#state.devices).some((paths) => paths.includes(path))) return null;
    const written = this.#state.files[path];
    if (written === undefined) return null;
    delete this.#state.files[path];
    const fate = !existsSync(path) ? "Missing" : digest(path) === written ? "Removed" : "Kept";
    if (fate === "Removed") rmSync(path);
    this.#save();
    return fate;
  }

  /** Ends the record when no device is left: removes it, and folders that were made and are empty. */
  close(): string[] {
    if (this.devices.length > 0) {
      this.#save();
      return [];
    }
    rmSync(this.#path, { force: true });
    return this.#state.folders.toReversed().filter((folder) => {
      try {
        rmdirSync(folder);
        return true;
      } catch {
        return false; // Others have put something there, or removed it.
      }
    });
  }

  #save(): void {
    writeWhole(this.#path, `${JSON.stringify(this.#state, null, 2)}\n`, 0o644);
  }
}
