/** libvirt's system daemon in namespaces of its own, with the guest lab's QEMU. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { skipWithout } from "../support/requirements.ts";
import { runtime } from "./back-end.ts";
import { lab, repository } from "./lab.ts";
import { type Running, start } from "./processes.ts";
import { until } from "./wait.ts";

/** Why there can be no libvirt here, or null. Throws where nothing may be skipped. */
export function libvirtProblem(): string | null {
  if (process.getuid?.() !== 0) return "not root: no namespaces for libvirt";
  const packages = "install libvirt-daemon and libvirt-clients";
  return skipWithout("libvirtd", packages) || skipWithout("virsh", packages) || null;
}

export interface Libvirt extends Pick<Running, "log"> {
  /** The program that domains name as their emulator. */
  readonly emulator: string;
  /** Runs a program where libvirt is. Returns its output. Throws when it fails. */
  run(...command: string[]): string;
  /** `virsh`, connected to it. */
  virsh(...args: string[]): string;
  /** Writes a file where libvirt is. */
  write(path: string, text: string, mode?: number): void;
  /** Ends libvirt and all that it started. */
  stop(): Promise<void>;
}

/** Starts libvirt. Everything that it writes is in `folder` or in memory. */
export async function startLibvirt(folder: string): Promise<Libvirt> {
  mkdirSync(folder, { recursive: true });
  const path = (name: string) => join(folder, name);
  const script = join(repository, "tests/guest/programs/libvirtd.sh");
  const daemon = start("libvirtd", ["unshare", "-mnp", "--fork", "--kill-child", script, folder]);
  const log = () => daemon.log();
  try {
    await until(
      15_000,
      () => {
        if (daemon.status() !== null) throw new Error(`it ended with ${daemon.status()}`);
        return existsSync(path("sock/libvirt-sock")) ? true : null;
      },
      "libvirt's socket",
    );
  } catch (error) {
    await daemon.stop("SIGKILL");
    throw new Error(`libvirtd does not start: ${(error as Error).message}\n${log()}`);
  }
  const inside = ["-m", "-n", "-p", "-t", readFileSync(path("process"), "utf8").trim()];
  const enter = (command: string[], input = "") => {
    const options = { input, encoding: "utf8", timeout: 60_000 } as const;
    const env = { ...process.env, RINGSIDE_RUNTIME: runtime };
    const result = spawnSync("nsenter", [...inside, ...command], { ...options, env });
    if (result.status === 0) return result.stdout;
    const why = result.error?.message ?? result.stderr.trim();
    throw new Error(`${command.join(" ")} failed: ${why}`);
  };
  const emulator = path("qemu");
  writeFileSync(emulator, `#!/bin/sh\nexec '${lab.run}' qemu-system-x86_64 "$@"\n`);
  chmodSync(emulator, 0o755);
  const uri = `qemu:///system?socket=${path("sock/libvirt-sock")}`;
  return {
    emulator,
    log,
    run: (...command) => enter(command),
    virsh: (...args) => enter(["virsh", "-q", "-c", uri, ...args]).trim(),
    write(file, text, mode = 0o644) {
      const script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"';
      enter(["sh", "-c", script, "write", file, mode.toString(8)], text);
    },
    async stop() {
      // unshare does not pass signals on; with its first process the whole namespace ends.
      await daemon.stop("SIGKILL");
    },
  };
}
