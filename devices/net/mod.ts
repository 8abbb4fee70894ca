/** The virtio network device (virtio 1.3, 5.1). */
import { type Static, Type } from "typebox";
import { type AnyDevice, defineDevice, type Host } from "../../core/device.ts";
import { CaptureFile } from "./capture.ts";
import { NetDevice } from "./device.ts";
import { parseMac } from "./mac.ts";
import { Monitor } from "./monitor.ts";
import type { Port } from "./port.ts";
import { openPorts } from "./ports/mod.ts";
import {
  DUPLEX_FULL,
  DUPLEX_UNKNOWN,
  NetConfig,
  NetFeature,
  type NetFeatureName,
  SPEED_UNKNOWN,
} from "./wire.ts";

/** Features that do not depend on the host side. */
const always: readonly NetFeatureName[] = [
  "MRG_RXBUF",
  "STATUS",
  "CTRL_VQ",
  "CTRL_RX",
  "CTRL_RX_EXTRA",
  "CTRL_VLAN",
  "CTRL_MAC_ADDR",
  "CTRL_GUEST_OFFLOADS",
  "GUEST_ANNOUNCE",
  "MQ",
];

export const netOptions = Type.Object({
  tap: Type.Optional(
    Type.String({ placeholder: "IFNAME", description: "Connect to this tap interface" }),
  ),
  tapFd: Type.Optional(
    Type.String({
      placeholder: "N,...",
      description: "Connect to a tap interface by inherited descriptors, one per queue pair",
    }),
  ),
  stream: Type.Optional(
    Type.String({
      placeholder: "PATH",
      description: "Connect to a stream socket, as QEMU's and passt's",
    }),
  ),
  streamListen: Type.Optional(
    Type.String({ placeholder: "PATH", description: "Wait for a peer on a stream socket" }),
  ),
  switch: Type.Boolean({
    default: false,
    description: "Connect the guests of several --socket-path with one another, and with --tap",
  }),
  loopback: Type.Boolean({ default: false, description: "Send every frame back" }),
  null: Type.Boolean({ default: false, description: "Forget every frame, for measuring" }),
  queuePairs: Type.Integer({
    default: 1,
    minimum: 1,
    maximum: 128,
    description: "Pairs of virtqueues; front-ends may use fewer",
  }),
  mac: Type.Optional(
    Type.String({ placeholder: "ADDRESS", description: "The interface's MAC address" }),
  ),
  mtu: Type.Optional(
    Type.Integer({ minimum: 68, maximum: 65535, description: "The largest packet, in bytes" }),
  ),
  speed: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 0x7fffffff,
      placeholder: "MBITS",
      description: "The speed to tell the driver, in Mbit/s",
    }),
  ),
  vlan: Type.Array(Type.Integer({ minimum: 0, maximum: 4094, placeholder: "ID" }), {
    description: "With --switch: the VLAN of each --socket-path in turn, 0 for that of --tap",
  }),
  ageing: Type.Integer({
    default: 300,
    minimum: 1,
    maximum: 1_000_000,
    description: "With --switch: seconds until an address that is silent is forgotten",
  }),
  monitor: Type.Optional(
    Type.String({
      placeholder: "PATH",
      description: 'Take commands on a socket: "link up", "link down", "counters"',
    }),
  ),
  pcap: Type.Optional(
    Type.String({ placeholder: "FILE", description: "Write all frames to a pcapng file" }),
  ),
});

export type NetOptions = Static<typeof netOptions>;
type NetHost = Host<typeof NetConfig.schema>;

function openInterface(
  options: NetOptions,
  host: NetHost,
  port: Port,
  capture: CaptureFile | null,
  index: number,
) {
  const { queuePairs, mtu = null, speed } = options;
  const mac = options.mac === undefined ? null : parseMac(options.mac);
  const device = new NetDevice({
    port,
    pairs: queuePairs,
    mac,
    mtu,
    capture: capture?.add(`port ${index}`) ?? null,
    host,
  });
  const config = {
    ...(mac === null ? {} : { mac }),
    status: device.status,
    maxVirtqueuePairs: queuePairs,
    mtu: mtu ?? 0,
    speed: speed ?? SPEED_UNKNOWN,
    duplex: speed === undefined ? DUPLEX_UNKNOWN : DUPLEX_FULL,
  };
  const offer: NetFeatureName[] = [...always, ...port.offloads];
  if (mac !== null) offer.push("MAC");
  if (mtu !== null) offer.push("MTU");
  if (speed !== undefined) offer.push("SPEED_DUPLEX");
  return { config, offer, device };
}

function openAll(options: NetOptions, hosts: readonly NetHost[]) {
  if (options.mac !== undefined && hosts.length > 1) {
    throw new Error("Cannot use --mac with several --socket-path: each interface has its own");
  }
  if (options.mac !== undefined) parseMac(options.mac);
  const ports = openPorts(options, hosts);
  try {
    const capture =
      options.pcap === undefined ? null : new CaptureFile(options.pcap, hosts[0]!.log);
    const opened = hosts.map((host, i) => openInterface(options, host, ports[i]!, capture, i));
    if (options.monitor !== undefined) {
      const devices = opened.map(({ device }) => device);
      devices[0]!.owns(new Monitor(options.monitor, hosts[0]!, devices));
    }
    return opened;
  } catch (error) {
    for (const port of ports) port[Symbol.dispose]();
    throw error;
  }
}

/** `vhost-user-net`: a network interface at a tap, a stream socket, a switch, or nothing. */
export const net: AnyDevice = defineDevice({
  type: "net",
  id: 1,
  summary: "Network interface: connects guests with a tap, a socket or one another",
  options: netOptions,
  features: NetFeature,
  config: NetConfig,
  queues: ({ queuePairs }) => [
    ...Array.from({ length: 2 * queuePairs }, (_, i) => ({
      name: `${i % 2 === 0 ? "receive" : "transmit"} ${i >> 1}`,
    })),
    { name: "control" },
  ],
  minQueues: 2,
  inOrder: true,
  protocol: ["RARP", "NET_MTU", "DEVICE_STATE"],
  open: (options, host) => openAll(options, [host])[0]!,
  openMany: openAll,
});

export default net;
