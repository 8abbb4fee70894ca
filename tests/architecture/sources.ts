/** The files of the repository, for the tests that guard its rules. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** What a checkout without git must leave out; .gitignore names the same. */
const ignored = new Set(["node_modules", "dist", ".cache", ".git"]);

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (ignored.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [relative(root, path)];
  });
}

function listFiles(): string[] {
  if (!existsSync(join(root, ".git"))) return walk(root);
  const command = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const listed = execFileSync("git", command, { cwd: root, encoding: "utf8" });
  // A file deleted but not committed yet is still listed.
  return listed.split("\0").filter((file) => file !== "" && existsSync(join(root, file)));
}

/** Paths of all files, relative to the root, sorted. */
export const files: readonly string[] = listFiles().sort();

export function read(file: string): string {
  return readFileSync(join(root, file), "utf8");
}

/** The folder that decides what a file may import; "" for the files of the root. */
export function layerOf(file: string): string {
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : "";
}

/** Folders of what users install. */
export const productLayers: readonly string[] = [
  "",
  "ffi",
  "core",
  "devices",
  "conventions",
  "frontend",
];

/** TypeScript sources of what users install. */
export const productFiles: readonly string[] = files.filter(
  (file) =>
    file.endsWith(".ts") && productLayers.includes(layerOf(file)) && !file.endsWith(".config.ts"),
);
