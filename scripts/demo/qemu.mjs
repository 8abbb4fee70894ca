/** The command lines that put a guest on a served disk, for the QEMU that is there. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { root } from "../setup.mjs";

const program = "qemu-system-x86_64";

/** Where tests/guest/lab/setup.sh unpacks a guest and its QEMU. */
export const labFolder = join(process.env.RINGSIDE_CACHE ?? join(root, ".cache"), "lab");

function versionOf(command) {
  const run = spawnSync(command[0], [...command.slice(1), "--version"], { encoding: "utf8" });
  const match = /version (\d+)\.(\d+)/.exec(run.stdout ?? "");
  return match === null ? null : [Number(match[1]), Number(match[2])];
}

/** QEMU as one would call it from the repository, and its version; null when none is installed. */
function findQemu() {
  const lab = join(labFolder, "run");
  const commands = [[program], ...(existsSync(lab) ? [[lab, program]] : [])];
  const found = commands
    .map((command) => ({ command, version: versionOf(command) }))
    .filter(({ version }) => version !== null);
  // The newest one: old versions cannot do everything that vhost-user devices need.
  found.sort((a, b) => b.version[0] - a.version[0] || b.version[1] - a.version[1]);
  return found[0] ?? null;
}

/** Lines to copy: the back-end, and the QEMU that boots from its disk. */
export function qemuCommand() {
  const qemu = findQemu();
  const [major, minor] = qemu?.version ?? [10, 0];
  const reconnect = major > 9 || (major === 9 && minor >= 2) ? "reconnect-ms=100" : "reconnect=1";
  const [command, ...rest] = qemu?.command ?? [program];
  const own = command.startsWith(root) ? relative(root, command) : command;
  return {
    found: qemu === null ? null : qemu.version.join("."),
    lines: [
      "bin/vhost-user-blk --socket-path=disk.sock --blk-file=disk.img &",
      `${[own, ...rest].join(" ")} -accel kvm -accel tcg -cpu max -smp 2 -m 1G \\`,
      "  -object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem \\",
      `  -chardev socket,id=disk,path=disk.sock,${reconnect} \\`,
      "  -device vhost-user-blk-pci,chardev=disk,num-queues=2,bootindex=1 -nographic",
    ],
  };
}
