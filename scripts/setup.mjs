/**
 * What every script of this folder stands on: where the repository is, whether its packages are
 * installed, and where the two runtimes lie. Plain Node, because it runs before `npm ci` has.
 */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export const runtimeNames = ["bun", "deno"];

function readJson(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : null;
}

/** Says what differs between package-lock.json and node_modules, or null when nothing does. */
function staleness() {
  const wanted = readJson(join(root, "package-lock.json"))?.packages;
  if (wanted === undefined) throw new Error(`Cannot find package-lock.json in ${root}`);
  // npm keeps its own record of what it put there.
  const installed = readJson(join(root, "node_modules", ".package-lock.json"))?.packages;
  if (installed === undefined) return "node_modules is missing";
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === "" || installed[path]?.version === version) continue;
    if (installed[path] === undefined && optional) continue;
    return `${path} should be at ${version}`;
  }
  return null;
}

/** Runs `npm ci` when node_modules is missing or not what package-lock.json says. */
export function ensureInstalled(log = console.log) {
  const reason = staleness();
  if (reason === null) return;
  log(`Installing packages (${reason}) ...`);
  const npm = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (npm.error) throw new Error(`Cannot run npm: ${npm.error.message}`);
  if (npm.status !== 0) throw new Error(`npm ci failed with exit status ${npm.status}`);
}

/** Packages hold a small text file in the place of the program until their install script ran. */
function isProgram(path) {
  if (!existsSync(path)) return false;
  const magic = Buffer.alloc(4);
  const fd = openSync(path, "r");
  readSync(fd, magic, 0, 4, 0);
  closeSync(fd);
  return magic.toString("latin1") === "\x7fELF";
}

function candidates(name) {
  const bunCpu = process.arch === "arm64" ? "aarch64" : process.arch;
  const local =
    name === "bun"
      ? [
          `@oven/bun-linux-${bunCpu}/bin/bun`,
          `@oven/bun-linux-${bunCpu}-musl/bin/bun`,
          "bun/bin/bun.exe",
        ]
      : [`@deno/linux-${process.arch}-glibc/deno`, "deno/deno"];
  const path = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  return [
    ...local.map((file) => join(root, "node_modules", file)),
    ...path.map((folder) => join(folder, name)),
  ];
}

/**
 * The path of a runtime's own program (not of the Node script that some packages put before it).
 * Throws when neither node_modules nor PATH has it.
 */
export function runtimePath(name) {
  const found = candidates(name).find(isProgram);
  if (found === undefined) {
    throw new Error(`Cannot find ${name} in node_modules or PATH; run "npm ci" first`);
  }
  return found;
}

/** Ends a script with one line on stderr. For what its user can mend. */
export function fail(error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
