/**
 * A Linux guest in QEMU: TCG, q35, shared memfd memory, as vhost-user back-ends need it.
 *
 * QEMU connects to two sockets of ours, its machine protocol and the guest's command line, so
 * that there is nothing to poll for. The kernel console goes to a file for failure messages.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type Channel, openChannel } from "./channel.ts";
import { lab } from "./lab.ts";
import { start } from "./processes.ts";
import { openQmp, type Qmp } from "./qmp.ts";
import { within } from "./wait.ts";

export interface GuestOptions {
  /** A folder for sockets and the console log. */
  folder: string;
  /** QEMU arguments that make the devices. */
  devices: string[];
  processors?: number;
  /** Guest memory in MiB. */
  memory?: number;
  /** The initial file system, when it is not the lab's. */
  initrd?: string;
  /** Additions to the kernel command line. */
  kernelArguments?: string;
  /** Memory that can be plugged in besides, in MiB. */
  pluggable?: number;
  /** Words before QEMU's command, as for a network namespace. */
  prefix?: readonly string[];
  /** Wait for a guest that migrates to here (`migrate-incoming`) instead of booting one. */
  incoming?: boolean;
}

export interface Guest extends Channel, Qmp {
  readonly pid: number;
  /** Resets the machine and waits until the guest is up again. */
  reset(): Promise<void>;
  /** The end of the kernel console and of QEMU's own messages. */
  log(): string;
  stop(): Promise<void>;
}

export const bootTimeoutMs = 60_000;

/**
 * Boots a guest and waits until it takes commands. Once more if need be: QEMU 10 with TCG aborts now and
 * then when one processor maps a device's memory while another one runs.
 */
export async function bootGuest(options: GuestOptions): Promise<Guest> {
  try {
    return await boot(options);
  } catch (error) {
    if (!String(error).includes("iotlb_to_section: Assertion")) throw error;
    return boot(options);
  }
}

async function boot(options: GuestOptions): Promise<Guest> {
  const path = (name: string) => join(options.folder, name);
  const lines = await Promise.all([listen(path("command")), listen(path("qmp"))]);
  const qemu = start("qemu", [
    ...(options.prefix ?? []),
    lab.run,
    "qemu-system-x86_64",
    ...qemuArguments(options),
  ]);
  const log = () => `${tail(path("console.log"))}\n${qemu.log()}`.trim();
  const stop = async () => {
    for (const line of lines) line.close();
    await qemu.stop("SIGKILL");
  };
  try {
    const early = qemu.ended.then((status) => {
      throw new Error(`QEMU ended with status ${status} before the guest was up`);
    });
    early.catch(() => {});
    const alive = <T>(promise: Promise<T>) => Promise.race([promise, early]);
    const [command, monitor] = await alive(
      within(10_000, Promise.all(lines.map((line) => line.socket)), "QEMU to connect"),
    );
    const channel = openChannel(command, command);
    const booted: Promise<unknown> = options.incoming
      ? Promise.resolve()
      : channel.ready(bootTimeoutMs);
    booted.catch(() => {});
    const qmp = await alive(openQmp(monitor));
    await alive(booted);
    return {
      ...channel,
      ...qmp,
      pid: qemu.pid,
      async reset() {
        const again = channel.ready(bootTimeoutMs);
        again.catch(() => {});
        await qmp.execute("system_reset");
        await again;
      },
      log,
      stop,
    };
  } catch (error) {
    await stop();
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`The guest did not boot: ${reason}\n${log()}`);
  }
}

function qemuArguments({ folder, devices, processors = 2, memory = 512, ...rest }: GuestOptions) {
  const { pluggable = 0 } = rest;
  const plugged = `${memory}M,slots=4,maxmem=${memory + pluggable}M`;
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"],
    ...["-smp", `${processors}`, "-m", pluggable === 0 ? `${memory}M` : plugged],
    ...["-object", `memory-backend-memfd,id=mem,size=${memory}M,share=on`],
    ...["-machine", "q35,memory-backend=mem"],
    ...[
      "-kernel",
      lab.kernel,
      "-initrd",
      rest.initrd ?? lab.qemuInitrd,
      "-append",
      kernelCommandLine(rest.kernelArguments),
    ],
    ...["-serial", `file:${join(folder, "console.log")}`],
    ...["-chardev", `socket,id=command,path=${join(folder, "command")}`],
    ...["-serial", "chardev:command"],
    ...["-chardev", `socket,id=qmp,path=${join(folder, "qmp")}`],
    ...["-mon", "chardev=qmp,mode=control"],
    ...(rest.incoming ? ["-incoming", "defer"] : []),
    ...devices,
  ];
}

/** What the guest's kernel is told. Its console is the first serial line, commands use the second. */
export function kernelCommandLine(additions = ""): string {
  const words = [
    "console=ttyS0 channel=/dev/ttyS1 quiet panic=0 tsc=reliable mitigations=off nokaslr",
    "nowatchdog audit=0 apparmor=0 cryptomgr.notests",
    additions,
  ];
  return words.join(" ").trim();
}

export interface Line {
  readonly socket: Promise<Socket>;
  close(): void;
}

/** Listens for the one connection that QEMU makes. */
export function listen(path: string): Promise<Line> {
  return new Promise((resolve, reject) => {
    let open: Socket | null = null;
    const server: Server = createServer();
    const socket = new Promise<Socket>((connected) => {
      server.once("connection", (connection: Socket) => {
        open = connection;
        server.close();
        connected(connection);
      });
    });
    const close = () => {
      open?.destroy();
      if (server.listening) server.close();
    };
    // Of an attempt that failed.
    rmSync(path, { force: true });
    server.once("error", reject);
    server.listen(path, () => resolve({ socket, close }));
  });
}

/** The end of a text file, if there is one. */
export function tail(path: string, bytes = 4_000): string {
  return existsSync(path) ? readFileSync(path, "utf8").slice(-bytes) : "";
}
