/** The back-ends that bench/blk.ts compares, each as a command. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { lab } from "../../tests/guest/lab.ts";
import { buildTool } from "../../tests/tools/build.ts";
import { blkProgram, Program } from "../../tests/tools/process.ts";

/** A back-end and how to start it. */
export interface Contender {
  readonly name: string;
  /** True for Ringside itself: the others are what it is compared with. */
  readonly ours: boolean;
  readonly env?: Readonly<Record<string, string>>;
  command(socket: string, file: string): string[];
}

export interface RingsideOptions {
  /** What to serve in place of the file, as `ram:1G`. */
  readonly store?: string;
  readonly options?: readonly string[];
}

export function ringside(
  runtime: string,
  { store, options = [] }: RingsideOptions = {},
): Contender {
  return {
    name: ["ringside,", runtime, ...options].join(" "),
    ours: true,
    env: { RINGSIDE_RUNTIME: runtime },
    command: (socket, file) => [
      blkProgram,
      `--socket-path=${socket}`,
      `--blk-file=${store ?? file}`,
      ...options,
    ],
  };
}

/** The back-end of bench/c/backend.c with a disk of `size` bytes in memory. */
export function cLoop(size: number, pollUs = 0): Contender {
  return {
    name: "C",
    ours: false,
    command: (socket) => [buildTool("bench/c/backend.c"), socket, `${size}`, `${pollUs}`],
  };
}

interface StorageDaemon {
  readonly command: readonly string[];
  readonly version: string;
}

let daemons: readonly StorageDaemon[] | null = null;

/** The qemu-storage-daemons of this machine: the one in PATH, and the one of the guest lab. */
function storageDaemons(): readonly StorageDaemon[] {
  daemons ??= findStorageDaemons();
  return daemons;
}

function findStorageDaemons(): StorageDaemon[] {
  const commands = [["qemu-storage-daemon"]];
  if (existsSync(join(lab.folder, "ready"))) commands.push([lab.run, "qemu-storage-daemon"]);
  const found: StorageDaemon[] = [];
  for (const command of commands) {
    const run = spawnSync(command[0]!, [...command.slice(1), "--version"], { encoding: "utf8" });
    const version = /version (\d+\.\d+\.\d+)/.exec(run.stdout ?? "")?.[1];
    if (run.status !== 0 || version === undefined) continue;
    if (!found.some((other) => other.version === version)) found.push({ command, version });
  }
  return found;
}

const exportOf = (socket: string) =>
  "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=4," +
  `addr.type=unix,addr.path=${socket}`;

/** qemu-storage-daemon with each of the given `aio` settings, through the page cache or past it. */
export function qemu(aios: readonly string[], direct = false): Contender[] {
  const cache = `cache.direct=${direct ? "on" : "off"}`;
  return storageDaemons().flatMap(({ command, version }) =>
    aios.map((aio) => ({
      name: `qemu-storage-daemon ${version}, ${aio}`,
      ours: false,
      command: (socket, file) => [
        ...command,
        "--blockdev",
        `driver=file,node-name=disk,filename=${file},aio=${aio},${cache}`,
        "--export",
        exportOf(socket),
      ],
    })),
  );
}

/** qemu-storage-daemon with the disk that does nothing. */
export function nullPeers(): Contender[] {
  return storageDaemons().map(({ command, version }) => ({
    name: `qemu-storage-daemon ${version}, null-co`,
    ours: false,
    command: (socket) => [
      ...command,
      "--blockdev",
      "driver=null-co,node-name=disk,size=268435456,read-zeroes=off",
      "--export",
      exportOf(socket),
    ],
  }));
}

/** `NAME=COMMAND`, in which `{socket}` and `{file}` stand for the two paths. */
export function custom(text: string): Contender {
  const at = text.indexOf("=");
  const words = text.slice(at + 1).split(/\s+/);
  if (at < 1 || !words.some((word) => word.includes("{socket}"))) {
    throw new Error(`Cannot use --with "${text}": write NAME=COMMAND ... {socket} ... {file}`);
  }
  return {
    name: text.slice(0, at),
    ours: false,
    command: (socket, file) =>
      words.map((word) => word.replaceAll("{socket}", socket).replaceAll("{file}", file)),
  };
}

/** Starts a back-end, on a processor of its own when `cpu` is given. */
export function launch(
  { command, env }: Contender,
  socket: string,
  file: string,
  cpu?: string,
): Promise<Program> {
  const pin = cpu === undefined ? [] : ["taskset", "-c", cpu];
  const [program, ...args] = [...pin, ...command(socket, file)];
  return new Program(program!, args, { socket, ...(env === undefined ? {} : { env }) }).ready();
}
