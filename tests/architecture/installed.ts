/** The package as npm would install it: `dist/` and `bin/` below node_modules, and no sources. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { read, root } from "./sources.ts";

/** What the package needs beside it: its dependencies that are not in the bundle, and the runtimes. */
const neighbours = ["typebox", "ws", "bun", "deno", "@oven", "@deno"];

export interface Installed extends Disposable {
  /** A project that has the package in its node_modules. */
  readonly project: string;
  /** The package itself. */
  readonly package: string;
}

/** Copies what npm packs beside the bundle, and links the neighbours. */
function copyFiles(modules: string, target: string): void {
  const { files } = JSON.parse(read("package.json")) as { files: string[] };
  const packed = files.filter((name) => name !== "dist");
  for (const name of ["package.json", "README.md", "LICENSE", ...packed]) {
    cpSync(join(root, name), join(target, name), { recursive: true });
  }
  // Deno lets a project import only what its package.json names.
  const manifest = { type: "module", dependencies: { "@ringside/vhost": "*" } };
  writeFileSync(join(dirname(modules), "package.json"), JSON.stringify(manifest));
  for (const name of neighbours) symlinkSync(join(root, "node_modules", name), join(modules, name));
}

function bundle(target: string): void {
  const tsup = join(root, "node_modules", ".bin", "tsup");
  const options = ["--no-dts", "--silent", "--out-dir", join(target, "dist")];
  execFileSync(tsup, options, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
}

/** Bundles the sources, without declarations, and puts the package together in a new folder. */
export function installPackage(): Installed {
  const project = mkdtempSync(join(tmpdir(), "ringside-dist-"));
  const dispose = () => rmSync(project, { recursive: true });
  const modules = join(project, "node_modules");
  const target = join(modules, "@ringside", "vhost");
  mkdirSync(target, { recursive: true });
  try {
    copyFiles(modules, target);
    bundle(target);
  } catch (error) {
    dispose();
    throw error;
  }
  return { project, package: target, [Symbol.dispose]: dispose };
}
