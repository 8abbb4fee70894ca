/** A network namespace with a tap interface in it, for one test file. Needs root, iproute2 and /dev/net/tun. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

let count = 0;

function ip(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${error?.message ?? stderr}`);
}

/** Why there can be no namespace with a tap here, or undefined. Throws where nothing may be skipped. */
export function tapProblem(): string | undefined {
  const problem = findProblem();
  if (problem !== undefined && process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error(problem);
  return problem;
}

function findProblem(): string | undefined {
  if (process.getuid?.() !== 0) return "not root: no network namespace";
  if (!existsSync("/dev/net/tun")) return "no /dev/net/tun";
  const name = `ringside-probe-${process.pid}`;
  if (spawnSync("ip", ["netns", "add", name]).status !== 0) return "no network namespaces";
  spawnSync("ip", ["netns", "del", name]);
  return undefined;
}

export class Namespace implements Disposable {
  readonly name: string = `ringside-${process.pid}-${count++}`;

  constructor() {
    ip("netns", "add", this.name);
    this.ip("link", "set", "lo", "up");
  }

  /** `ip` in the namespace. */
  ip(...args: readonly string[]): void {
    ip("-n", this.name, ...args);
  }

  /** Makes a tap interface that is up. */
  tap(name: string, address: string, multi = false): void {
    const queues = multi ? ["multi_queue"] : [];
    this.ip("tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr", ...queues);
    this.ip("address", "add", address, "dev", name);
    this.ip("link", "set", name, "up");
  }

  /** A command that runs in the namespace. */
  command(...words: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.name, ...words];
  }

  [Symbol.dispose](): void {
    spawnSync("ip", ["netns", "del", this.name]);
  }
}
