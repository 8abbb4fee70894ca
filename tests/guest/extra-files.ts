/** Additions to a guest's initial file system, which is otherwise the same for all tests. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lab } from "./lab.ts";

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
    maxBuffer: 2 ** 26,
  });
  if (made.status !== 0) throw new Error(`cpio failed: ${made.stderr}`);
  const path = join(folder, "initrd.cpio");
  writeFileSync(path, Buffer.concat([readFileSync(lab.qemuInitrd), made.stdout]));
  return path;
}
