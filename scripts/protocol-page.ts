/** The tables of docs/protocol.md, made of the tables that the program runs by. */
import { protocolFeatures, ringFeatures } from "../core/backend.ts";
import { declaredParts } from "../core/declared-protocol.ts";
import { drafts } from "../core/drafts.ts";
import { has, RingFeature, VhostFeature } from "../core/features.ts";
import { handlers } from "../core/handlers/mod.ts";
import { type PayloadName, payloadSizes } from "../core/payloads.ts";
import {
  backEndMessages,
  frontEndMessages,
  type MessageRow,
  ProtocolFeature,
} from "../core/protocol.ts";

const OURS = "only our own front-end";
const common = "QEMU, cloud-hypervisor, User-Mode Linux, Firecracker, libkrun";

/** Front-ends that are known to use a protocol feature. */
const featureUsers: Readonly<Record<string, string>> = {
  MQ: "QEMU, cloud-hypervisor, libkrun",
  LOG_SHMFD: "QEMU",
  RARP: "QEMU (`guest_announce=off`)",
  REPLY_ACK: "QEMU, cloud-hypervisor, User-Mode Linux",
  NET_MTU: "QEMU (`host_mtu=`)",
  BACKEND_REQ: "QEMU, cloud-hypervisor, User-Mode Linux, libkrun",
  PAGEFAULT: "QEMU (postcopy)",
  CONFIG: common,
  BACKEND_SEND_FD: "QEMU, libkrun",
  INFLIGHT_SHMFD: "QEMU, cloud-hypervisor",
  RESET_DEVICE: "QEMU",
  INBAND_NOTIFICATIONS: "User-Mode Linux",
  CONFIGURE_MEM_SLOTS: "QEMU",
  STATUS: "QEMU",
  GPA_ADDRESSES: "QEMU 11.1",
  DEVICE_STATE: "QEMU 10 (net), cloud-hypervisor, crosvm",
};

/** Front-ends that are known to use a message, where its feature does not tell. */
const messageUsers: Readonly<Record<string, string>> = {
  RESET_OWNER: "QEMU, where RESET_DEVICE is not negotiated",
  SET_LOG_BASE: "QEMU",
  SET_LOG_FD: OURS,
  SET_VRING_ENABLE: common,
  SET_VRING_ERR: "QEMU",
  GPU_SET_SOCKET: "QEMU, libkrun",
  "front-end IOTLB_MSG": "QEMU",
  "back-end IOTLB_MSG": "QEMU",
  CONFIG_CHANGE_MSG: "QEMU, cloud-hypervisor, libkrun",
  VRING_ERR: OURS,
};

/** Options of a program that offer a feature. */
const optionOf: Readonly<Record<string, string>> = {
  PAGEFAULT: "--postcopy",
  ACCESS_PLATFORM: "--iommu",
  RING_RESET: "--ring-reset",
};

/** Why a protocol feature is never offered. */
const never: Readonly<Record<string, string>> = {
  XEN_MMAP: "never: guest memory comes as files here, and is refused with that reason",
};

const nameOfFeature = new Map<number, string>(
  Object.entries(ProtocolFeature).map(([name, bit]) => [bit, name]),
);

function offered(name: string, bit: number): string {
  if (has(protocolFeatures, bit)) return "always";
  if (bit === ProtocolFeature.CONFIGURE_MEM_SLOTS) return "without `--postcopy`";
  const part = Object.entries(declaredParts).find(([declared]) => declared === name)?.[1];
  if (name === "SHMEM") return "when the device has `sharedMemory`";
  if (part !== undefined) {
    const hooks = part.hooks.map((hook) => `\`${hook}\``).join(" and ");
    return hooks === "" ? "when the device declares it" : `when the device has ${hooks}`;
  }
  if (optionOf[name] !== undefined) return `with \`${optionOf[name]}\``;
  return never[name] ?? "no";
}

function ringOptIn(name: string): string {
  if (optionOf[name] !== undefined) return `with \`${optionOf[name]}\``;
  return name === "IN_ORDER" ? "when the device has `inOrder`" : "no";
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function sizeOf(payload: PayloadName): string {
  const { min, max } = payloadSizes[payload];
  return min === max ? `${min}` : `${min}-${max}`;
}

function replyOf({ reply }: MessageRow): string {
  if (reply === "ack") return "on demand";
  const fds = reply.fds ? `, ${reply.fds} fd` : "";
  const refusal = reply.refusal === undefined ? "" : `; refused by ${reply.refusal}`;
  return `${sizeOf(reply.payload)}${fds}${refusal}`;
}

function fdsOf({ fds: [min, max] }: MessageRow): string {
  return min === max ? `${min}` : `${min}-${max}`;
}

function usersOf(message: MessageRow, side: string): string {
  const own = messageUsers[`${side} ${message.name}`] ?? messageUsers[message.name];
  if (own !== undefined) return own;
  if (message.needs === undefined) return common;
  return featureUsers[nameOfFeature.get(message.needs)!] ?? OURS;
}

/** The sections of the page by the names of their marks. */
export function protocolTables(): Readonly<Record<string, string>> {
  const features = Object.entries(ProtocolFeature).map(([name, bit]) => [
    bit,
    name,
    offered(name, bit),
    featureUsers[name] ?? OURS,
  ]);
  const ring = Object.entries({ ...VhostFeature, ...RingFeature })
    .sort(([, a], [, b]) => a - b)
    .map(([name, bit]) => [bit, name, has(ringFeatures, bit) ? "always" : ringOptIn(name)]);
  const message = (side: string) => (row: MessageRow) =>
    [
      row.code,
      row.name,
      sizeOf(row.payload),
      fdsOf(row),
      replyOf(row),
      row.needs === undefined ? "" : nameOfFeature.get(row.needs)!,
    ].concat(side === "front-end" ? [handlers[row.code] === undefined ? "no" : "yes"] : [], [
      usersOf(row, side),
    ]);
  const drafted = Object.entries(drafts).map(([name, draft]) => [
    `\`--draft=${name}\``,
    `${draft.feature} (${draft.bit})`,
    nameOfFeature.get(draft.bit)!,
    draft.messages.map(({ row }) => `${row.code} ${row.name}`).join(", "),
  ]);
  const head = ["id", "message", "bytes", "fds", "reply", "needs"];
  return {
    "protocol features": table(["bit", "feature", "offered", "used by"], features),
    "ring features": table(["bit", "feature", "offered"], ring),
    "front-end messages": table(
      [...head, "served", "used by"],
      Object.values(frontEndMessages).map(message("front-end")),
    ),
    "back-end messages": table(
      [...head, "taken by"],
      Object.values(backEndMessages).map(message("back-end")),
    ),
    drafts: table(["option", "feature", "takes the bit of", "messages"], drafted),
  };
}

/** The page with its tables made anew. What stands between the marks goes, the rest stays. */
export function renderPage(page: string): string {
  return Object.entries(protocolTables()).reduce((text, [name, content]) => {
    const begin = `<!-- ${name}: made by npm run docs:protocol -->`;
    const end = "<!-- end -->";
    const from = text.indexOf(begin);
    const to = text.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`The page has no place for the ${name}: "${begin}"`);
    return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`;
  }, page);
}
