/** Additions to a guest's initial file system, which is otherwise the same for all tests. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { lab } from "./lab.ts";

/**
 * Paths of a module of the guest's kernel and of those that it needs, by their names. Load them in this
 * order with `insmod`; some may be there already.
 */
export function kernelModules(name: string): Readonly<Record<string, string>> {
  const base = join(lab.folder, "kernel");
  const [version] = readdirSync(join(base, "lib/modules"));
  const shown = spawnSync(lab.run, [
    "modprobe",
    "-d",
    base,
    "-S",
    version!,
    "--show-depends",
    name,
  ]);
  const paths = [...String(shown.stdout).matchAll(/^insmod (\S+\.ko)\s*$/gm)].map(
    ([, path]) => path!,
  );
  if (shown.status !== 0 || paths.length === 0) {
    throw new Error(`The guest's kernel has no module ${name}: ${shown.stderr}`);
  }
  return Object.fromEntries(paths.map((path) => [basename(path), path]));
}

/** Libraries that a program is linked with, and the loader, by the names that it asks for. */
export function librariesOf(program: string): Readonly<Record<string, string>> {
  const { status, stdout, stderr } = spawnSync("ldd", [program], { encoding: "utf8" });
  if (status !== 0) throw new Error(`ldd ${program}: ${stderr}`);
  const lines = stdout.matchAll(/^\s*(?:(\S+) => )?(\/\S+) \(0x/gm);
  return Object.fromEntries([...lines].map(([, name, path]) => [name ?? "loader", path!]));
}

/**
 * Makes an initial file system that has further programs in /extra, by name. Returns its path, which is
 * in `folder`. The kernel unpacks archives that follow one another.
 */
export function withPrograms(folder: string, programs: Readonly<Record<string, string>>): string {
  const tree = join(folder, "tree");
  mkdirSync(join(tree, "extra"), { recursive: true });
  for (const [name, path] of Object.entries(programs)) {
    copyFileSync(path, join(tree, "extra", name));
  }
  const names = ["extra", ...Object.keys(programs).map((name) => `extra/${name}`)];
  const made = spawnSync(lab.run, ["cpio", "-o", "-H", "newc", "--quiet"], {
    cwd: tree,
    input: `${names.join("\n")}\n`,
    maxBuffer: 2 ** 28,
  });
  if (made.status !== 0) throw new Error(`cpio failed: ${made.stderr}`);
  const path = join(folder, "initrd.cpio");
  writeFileSync(path, Buffer.concat([readFileSync(lab.qemuInitrd), made.stdout]));
  return path;
}
