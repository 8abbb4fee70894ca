/**
 * The back-end processes under test: bin/vhost-user-blk and bin/vhost-user-rng under the runtime
 * that runs the test, or under the one that RINGSIDE_RUNTIME names.
 *
 * RINGSIDE_GUEST_BACK_END=qemu-storage-daemon puts QEMU's own block back-end in their place. What
 * fails with that too is the fault of a test or of the machine, not ours.
 */
import { readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isListening } from "../support/process-status.ts";
import { lab, repository } from "./lab.ts";
import { type Running, start } from "./processes.ts";
import { until } from "./wait.ts";

export interface BlkOptions {
  file: string;
  queues?: number;
  readOnly?: boolean;
  serial?: string;
  postcopy?: boolean;
  iommu?: boolean;
  /** A module of this folder whose default export takes the place of the disk; never a stand-in. */
  plugin?: string;
  debug?: boolean;
}

export interface BackEnd extends Running {
  readonly socket: string;
}

export const runtime: string =
  process.env.RINGSIDE_RUNTIME ?? (process.versions.bun === undefined ? "deno" : "bun");

/** True when QEMU's block back-end stands in for ours. */
export const standIn = process.env.RINGSIDE_GUEST_BACK_END === "qemu-storage-daemon";

const startTimeoutMs = 20_000;

export function startBlk(socket: string, options: BlkOptions): Promise<BackEnd> {
  return listening(
    socket,
    standIn && !options.plugin ? foreignBlk(socket, options) : ownBlk(socket, options),
  );
}

/** Starts the program of a device, after the words of `prefix`, as for a network namespace. */
export function startDevice(
  device: "gpu" | "input" | "net" | "rng",
  socket: string,
  args: readonly string[] = [],
  prefix: readonly string[] = [],
): Promise<BackEnd> {
  const program = join(repository, `bin/vhost-user-${device}`);
  return listening(socket, [...prefix, program, `--socket-path=${socket}`, ...args]);
}

/** Starts a graphics card, a keyboard and a tablet: gpu.sock, keyboard.sock and tablet.sock in `folder`. */
export function startDesktop(folder: string, args: readonly string[] = []): Promise<BackEnd> {
  const program = join(repository, "bin/ringside");
  // The last of them that is there.
  const socket = join(folder, "tablet.sock");
  return listening(socket, [program, "desktop", `--sockets=${folder}`, ...args]);
}

/** Serves a file by tests/support/tardy-disk.ts, which completes out of order. */
export function startTardy(socket: string, file: string, args: string[] = []): Promise<BackEnd> {
  const device = join(repository, "tests/support/tardy-disk.ts");
  const program = join(repository, "bin/ringside");
  return listening(socket, [
    program,
    device,
    `--socket-path=${socket}`,
    `--blk-file=${file}`,
    ...args,
  ]);
}

function ownBlk(socket: string, options: BlkOptions): string[] {
  const { file, queues, readOnly, serial, plugin, debug, postcopy, iommu } = options;
  return [
    ...(plugin === undefined
      ? [join(repository, "bin/vhost-user-blk")]
      : [join(repository, "bin/ringside"), join(repository, "tests/guest", plugin)]),
    `--socket-path=${socket}`,
    ...(debug ? ["--log-level=debug"] : []),
    `--blk-file=${file}`,
    ...(queues === undefined ? [] : [`--num-queues=${queues}`]),
    ...(readOnly ? ["--read-only"] : []),
    ...(postcopy ? ["--postcopy"] : []),
    ...(iommu ? ["--iommu"] : []),
    ...(serial === undefined ? [] : [`--serial=${serial}`]),
  ];
}

function foreignBlk(socket: string, { file, queues = 8, readOnly }: BlkOptions): string[] {
  const writable = readOnly ? "off" : "on";
  // The daemon does not replace the socket that a killed one left.
  rmSync(socket, { force: true });
  return [
    ...[lab.run, "qemu-storage-daemon", "--blockdev"],
    `driver=file,node-name=disk,filename=${file},discard=unmap,` +
      `read-only=${readOnly ? "on" : "off"}`,
    "--export",
    `type=vhost-user-blk,id=export,node-name=disk,writable=${writable},num-queues=${queues},` +
      `addr.type=unix,addr.path=${socket}`,
  ];
}

/** Starts a program and waits until it listens. */
async function listening(socket: string, command: string[]): Promise<BackEnd> {
  const running = start(command[0].split("/").at(-1) ?? "back-end", command, {
    env: { RINGSIDE_RUNTIME: runtime },
  });
  const probe = () => {
    if (running.status() !== null) {
      throw new Error(`it ended with status ${running.status()}`);
    }
    return isListening(socket, running.pid) ? true : null;
  };
  try {
    await until(startTimeoutMs, probe, `a listener on ${socket}`);
  } catch (error) {
    await running.stop("SIGKILL");
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${command.join(" ")} does not serve: ${reason}\n${running.log()}`);
  }
  const program = readlinkSync(`/proc/${running.pid}/exe`);
  if (!standIn && !program.includes(runtime)) {
    await running.stop("SIGKILL");
    throw new Error(`The back-end should run under ${runtime} but runs under ${program}`);
  }
  return { ...running, socket };
}
