#!/usr/bin/env node
/**
 * Brings package-lock.json up to date: `npm run lock`, after every change of the dependencies.
 *
 * npm leaves out optional packages of other platforms that the registry in use does not carry, and
 * `npm ci` then refuses its own lock file. This adds the missing rows, from the names and versions
 * that the depending packages state. They carry no checksum; npm fills it in where it can fetch them.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

const systems = ["android", "darwin", "freebsd", "linux", "openbsd", "openharmony", "win32"];
const processors = ["arm64", "arm", "ia32", "loong64", "ppc64", "riscv64", "s390x", "x64"];

/** The platform that a package such as `@scope/tool-linux-x64-musl` is for. */
function platformOf(name) {
  const words = name.split("/").at(-1).split("-");
  const os = systems.find((system) => words.includes(system));
  const cpu = processors.find((processor) => words.includes(processor));
  if (os === undefined || cpu === undefined) {
    throw new Error(`Cannot tell the platform of the optional package ${name}`);
  }
  const musl = words.some((word) => word.startsWith("musl"));
  const libc = os === "linux" ? { libc: [musl ? "musl" : "glibc"] } : {};
  return { cpu: [cpu], dev: true, ...libc, optional: true, os: [os] };
}

/** Adds the rows that `npm ci` would miss. Returns their names. */
function complete(packages) {
  const added = [];
  for (const { optionalDependencies = {} } of Object.values(packages)) {
    for (const [name, version] of Object.entries(optionalDependencies)) {
      const key = `node_modules/${name}`;
      if (packages[key] !== undefined) continue;
      packages[key] = { version, ...platformOf(name) };
      added.push(name);
    }
  }
  return added;
}

execFileSync("npm", ["install", "--package-lock-only", "--ignore-scripts"], {
  cwd: root,
  stdio: ["ignore", "ignore", "inherit"],
});
const path = join(root, "package-lock.json");
const lock = JSON.parse(readFileSync(path, "utf8"));
const added = complete(lock.packages);
const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
lock.packages = Object.fromEntries(sorted);
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${sorted.length - 1} packages, ${added.length} rows added`);
