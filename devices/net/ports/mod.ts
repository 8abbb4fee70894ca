/** Chooses the host side that the options name. */
import type { Host } from "../../../core/device.ts";
import type { NetOptions } from "../mod.ts";
import type { Port } from "../port.ts";
import { LoopbackPort } from "./loopback.ts";
import { NullPort } from "./null.ts";
import { StreamPort } from "./stream.ts";
import { openSwitch } from "./switch.ts";
import { inheritTapQueues, openTapQueues, TapPort } from "./tap.ts";

/** Options that name a host side each. */
const kinds = ["tap", "tapFd", "stream", "streamListen", "switch", "loopback", "null"] as const;

/** What a switch can have beside its guests. */
const uplinks: ReadonlySet<string> = new Set(["switch", "tap", "tapFd"]);

const flag = (name: string) => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;

/** Opens a port for each of `hosts`. Throws `Error` when the options name none, or several. */
export function openPorts(options: NetOptions, hosts: readonly Host<any>[]): Port[] {
  const given = kinds.filter((kind) => options[kind] !== undefined && options[kind] !== false);
  const [first] = given;
  if (first === undefined) {
    throw new Error(`Cannot open the device: give one of ${kinds.map(flag).join(", ")}`);
  }
  if (options.switch && given.every((kind) => uplinks.has(kind))) {
    return openSwitch(
      { vlans: vlansOf(options, hosts.length), ...switchOf(options, hosts) },
      hosts,
    );
  }
  if (given.length > 1) {
    throw new Error(`Cannot use ${given.map(flag).join(" and ")} together`);
  }
  if (hosts.length > 1) {
    throw new Error(`Cannot use ${flag(first)} with several --socket-path: that takes --switch`);
  }
  return [openPort(first, options, hosts[0]!)];
}

function switchOf(options: NetOptions, hosts: readonly Host<any>[]) {
  const { tap, tapFd, ageing } = options;
  const host = hosts[0]!;
  if (tap === undefined && tapFd === undefined) return { ageing };
  const fds = () => (tap === undefined ? inheritTapQueues(tapFd!, 1) : openTapQueues(tap, 1));
  return { ageing, uplink: () => new TapPort(fds(), host) };
}

function vlansOf({ vlan }: NetOptions, ports: number): number[] {
  if (vlan.length > ports) {
    throw new Error(`Cannot use ${vlan.length} times --vlan: there are ${ports} --socket-path`);
  }
  return Array.from({ length: ports }, (_, i) => vlan[i] ?? 0);
}

function openPort(kind: (typeof kinds)[number], options: NetOptions, host: Host<any>): Port {
  const { tap, tapFd, stream, streamListen, queuePairs } = options;
  switch (kind) {
    case "tap":
      return new TapPort(openTapQueues(tap!, queuePairs), host);
    case "tapFd":
      return new TapPort(inheritTapQueues(tapFd!, queuePairs), host);
    case "stream":
      return new StreamPort({ connect: stream! }, host);
    case "streamListen":
      return new StreamPort({ listen: streamListen! }, host);
    case "loopback":
      return new LoopbackPort();
    default:
      return new NullPort();
  }
}
