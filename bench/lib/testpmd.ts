/** dpdk-testpmd as a front-end, and as the back-end to compare with. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

export const installed: boolean =
  spawnSync("dpdk-testpmd", ["--help"], { stdio: "ignore" }).error === undefined;

const PROMPT = "testpmd> ";
const START_LIMIT = 30_000;

/** Frames and bytes of all ports. */
export interface PortStats {
  readonly rx: number;
  readonly tx: number;
}

let count = 0;

export interface TestpmdOptions {
  /** One for each port, without the name: `net_virtio_user,path=...`. */
  readonly vdevs: readonly string[];
  /** The processor of the forwarding loop, 0 or 1; the other one reads commands. */
  readonly cpu: number;
  readonly args: readonly string[];
}

export class Testpmd {
  readonly #child: ChildProcess;
  #output = "";

  constructor({ vdevs, cpu, args }: TestpmdOptions) {
    const devices = vdevs.map((vdev, i) => `--vdev=${vdev.replace(/^\w+/, (name) => name + i)}`);
    const eal = ["-l", "0,1", `--main-lcore=${1 - cpu}`, "--no-huge", "-m", "512", "--no-pci"];
    eal.push(`--file-prefix=bench-${process.pid}-${count++}`, "--log-level=lib.eal:4");
    const pools = ["--total-num-mbufs=16384", "--no-mlockall", "-i"];
    // By lines: it writes its prompt past the buffer that all else waits in.
    const command = ["-oL", "dpdk-testpmd", ...eal, ...devices, "--", ...pools, ...args];
    this.#child = spawn("stdbuf", command);
    const keep = (chunk: Buffer) => {
      this.#output += chunk.toString();
    };
    this.#child.stdout!.on("data", keep);
    this.#child.stderr!.on("data", keep);
  }

  get output(): string {
    return this.#output;
  }

  /** Waits until it takes commands. */
  async ready(): Promise<this> {
    for (let waited = 0; !this.#output.includes(PROMPT); waited += 20) {
      if (this.#child.exitCode !== null || waited > START_LIMIT) {
        throw new Error(`dpdk-testpmd does not start: ${this.#output.slice(-2000)}`);
      }
      await sleep(20);
    }
    return this;
  }

  /** Gives a command and returns what it says. */
  async command(text: string): Promise<string> {
    const from = this.#output.length;
    this.#child.stdin!.write(`${text}\n`);
    for (let waited = 0; !this.#output.slice(from).includes(PROMPT); waited += 5) {
      if (waited > START_LIMIT) throw new Error(`dpdk-testpmd does not answer "${text}"`);
      await sleep(5);
    }
    return this.#output.slice(from);
  }

  async stats(): Promise<PortStats> {
    const text = await this.command("show port stats all");
    const sum = (name: string) =>
      [...text.matchAll(new RegExp(`${name}-packets: (\\d+)`, "g"))].reduce(
        (total, [, digits]) => total + Number(digits),
        0,
      );
    return { rx: sum("RX"), tx: sum("TX") };
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.stdin!.write("quit\n");
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    const late = sleep(5000, null, { ref: false }).then(() => this.#child.kill("SIGKILL"));
    await Promise.race([ended, late]);
  }
}
