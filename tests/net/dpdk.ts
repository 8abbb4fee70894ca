/** A vhost-user-net program with dpdk-testpmd as its front-end, and what both have counted. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { installed, Testpmd } from "../../bench/lib/testpmd.ts";
import { runtime } from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher } from "../support/program.ts";
import { Program } from "../tools/process.ts";

/** Why there can be no such front-end here, or false. Throws where nothing may be skipped. */
export function dpdkProblem(): string | false {
  if (installed) return false;
  if (process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error("no dpdk-testpmd");
  return "no dpdk-testpmd: Debian has it in dpdk-dev";
}

export interface Counters {
  readonly txFrames: number;
  readonly txDropped: number;
  readonly txInvalid: number;
  readonly rxFrames: number;
  readonly rxDropped: number;
  readonly rxFiltered: number;
}

/** What a device has said of itself at its front-end's end. `socket` tells which, of several. */
function countersOf(program: Program, socket: string): Counters | null {
  const line = program.stderr
    .match(/Frames so far \(.*\)/g)
    ?.findLast((text) => text.includes(socket));
  if (line === undefined) return null;
  const pairs = [...line.matchAll(/(\w+)=(\d+)\b/g)];
  return Object.fromEntries(
    pairs.map(([, name, value]) => [name, Number(value)]),
  ) as unknown as Counters;
}

/** The network program, with a socket for each of `ports`. */
export class NetProgram implements AsyncDisposable {
  readonly folder: Folder = new Folder();
  readonly sockets: readonly string[];
  readonly #program: Program;

  private constructor(args: readonly string[], ports: number) {
    this.sockets = Array.from({ length: ports }, (_, i) => this.folder.at(`s${i}`));
    const command = [...args, ...this.sockets.map((socket) => `--socket-path=${socket}`)];
    const words = command.map((word) => word.replace("FOLDER", this.folder.path));
    const env = { RINGSIDE_RUNTIME: runtime.name };
    this.#program = new Program(launcher("vhost-user-net"), words, {
      socket: this.sockets.at(-1)!,
      env,
    });
  }

  /** `FOLDER` in an argument stands for the program's own folder. */
  static async start(args: readonly string[], ports = 1): Promise<NetProgram> {
    const own = new NetProgram(args, ports);
    await own.#program.ready();
    return own;
  }

  /** A port of testpmd at the program's port `i`. */
  vdev(i: number, settings: string): string {
    return `net_virtio_user,path=${this.sockets[i]},queue_size=256,${settings}`;
  }

  /** What each port has counted. All front-ends must be gone by now. */
  async counters(): Promise<Counters[]> {
    for (let tries = 0; ; tries++) {
      const all = this.sockets.map((socket, _, { length }) =>
        countersOf(this.#program, length === 1 ? "" : `${socket},`),
      );
      if (all.every((each) => each !== null)) return all as Counters[];
      assert.ok(tries < 100, this.#program.stderr);
      await sleep(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program.stop();
    this.folder[Symbol.dispose]();
  }
}

export const sum = (all: readonly Counters[], name: keyof Counters): number =>
  all.reduce((total, each) => total + each[name], 0);

/** Starts a front-end, does what `body` says with it, and has it end. */
export async function withFront<T>(
  vdevs: readonly string[],
  args: readonly string[],
  body: (front: Testpmd) => Promise<T>,
): Promise<T> {
  const front = await new Testpmd({ vdevs, cpu: 1, args }).ready();
  try {
    return await body(front);
  } finally {
    await front.stop();
  }
}

/** Lets a front-end that no longer sends take what is still in its rings. */
export async function drain(front: Testpmd): Promise<void> {
  await front.command("set fwd rxonly");
  await front.command("start");
  await sleep(200);
  await front.command("stop");
}
