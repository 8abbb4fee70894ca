/**
 * User-Mode Linux as a front-end: a Linux kernel that is a process, at native speed without KVM.
 *
 * Its first console, on our pipes, is the command line; its messages go to stderr. Where in-band
 * notifications are offered it passes no kick and call descriptors, and it never reconnects.
 */
import { statfsSync } from "node:fs";
import { type Channel, openChannel } from "./channel.ts";
import { lab } from "./lab.ts";
import { start } from "./processes.ts";
import { within } from "./wait.ts";

export interface UmlOptions {
  /** For the memory file, where /dev/shm is too small. */
  folder: string;
  devices: { socket: string; virtioId: number }[];
  /** Guest memory in MiB. */
  memory?: number;
}

export interface Uml extends Channel {
  readonly pid: number;
  log(): string;
  stop(): Promise<void>;
}

const bootTimeoutMs = 30_000;

/** Boots User-Mode Linux and waits until it takes commands. */
export async function bootUml({ folder, devices, memory = 256 }: UmlOptions): Promise<Uml> {
  const command = [
    lab.uml,
    `mem=${memory}M`,
    `initrd=${lab.umlInitrd}`,
    ...devices.map(({ socket, virtioId }) => `virtio_uml.device=${socket}:${virtioId}`),
    ...["con0=fd:0,fd:1", "con=null", "ssl=null", "stderr=1", "channel=/dev/tty0"],
  ];
  const env = { HOME: folder, ...memoryFolder(folder, memory) };
  const uml = start("uml", command, { env, pipe: true });
  if (!uml.stdin || !uml.stdout) throw new Error("User-Mode Linux was started without pipes");
  const channel = openChannel(uml.stdout, uml.stdin);
  // A kernel that halts collects its helper processes, a killed one leaves them to others.
  const stop = async () => {
    channel.ask("poweroff -f", { timeoutMs: 1 }).catch(() => {});
    await within(3_000, uml.ended, "User-Mode Linux to halt").catch(() => uml.stop("SIGKILL"));
  };
  try {
    const early = uml.ended.then((status) => {
      throw new Error(`User-Mode Linux ended with status ${status} before it was up`);
    });
    early.catch(() => {});
    await Promise.race([channel.ready(bootTimeoutMs), early]);
  } catch (error) {
    await stop();
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`User-Mode Linux did not boot: ${reason}\n${uml.log()}`);
  }
  return { ...channel, pid: uml.pid, log: uml.log, stop };
}

/** Containers often give /dev/shm 64 MB; a guest whose memory file does not fit dies of SIGBUS. */
function memoryFolder(folder: string, memory: number): Record<string, string> {
  const { bavail, bsize } = statfsSync("/dev/shm");
  return bavail * bsize > (memory + 16) * 1024 * 1024 ? {} : { TMPDIR: folder };
}
