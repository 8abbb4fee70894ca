/** Where the programs, kernels and initial file systems are that lab/setup.sh unpacks. */
import { existsSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

const sources = join(repository, "tests/guest/lab");
const folder = resolve(process.env.RINGSIDE_CACHE ?? join(repository, ".cache"), "lab");

export const lab = {
  folder,
  /** Runs a program of the unpacked Debian: `run qemu-system-x86_64 ...`. Replaces itself by it. */
  run: join(folder, "run"),
  kernel: join(folder, "kernel/vmlinux"),
  qemuInitrd: join(folder, "qemu.cpio"),
  /** A disk with a Debian that draws, of lab/graphics.sh. */
  graphics: join(folder, "graphics.ext4"),
  uml: join(folder, "uml/usr/bin/linux.uml"),
  umlInitrd: join(folder, "uml.cpio"),
};

/** True when the counts that the issues name are wanted instead of the quick ones. */
export const full = process.env.RINGSIDE_TEST_FULL === "1";

/** Why guest tests cannot run here, or null. Throws where skipping is not allowed, as in CI. */
export function labProblem(): string | null {
  const state = labState();
  if (state === null) return null;
  const reason = `lab ${state}: run tests/guest/lab/setup.sh`;
  if (process.env.CI || process.env.RINGSIDE_REQUIRE_ALL === "1") {
    throw new Error(`${reason} (looked in ${folder})`);
  }
  return reason;
}

/** The same for what `lab.graphics` is needed for. */
export function graphicsProblem(): string | null {
  const problem = labProblem();
  if (problem !== null || existsSync(lab.graphics)) return problem;
  const reason = "no Debian that draws: run tests/guest/lab/graphics.sh";
  if (process.env.CI || process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error(reason);
  return reason;
}

function labState(): string | null {
  const parts = [lab.run, lab.kernel, lab.qemuInitrd, lab.uml, lab.umlInitrd];
  if (!parts.every((path) => existsSync(path))) return "not set up";
  const changed = ["init.sh", "initramfs.sh"].map((name) => modified(join(sources, name)));
  return Math.max(...changed) > modified(lab.umlInitrd) ? "out of date" : null;
}

const modified = (path: string): number => statSync(path).mtimeMs;
