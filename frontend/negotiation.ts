/** The first messages of a connection, up to the point where the guest's driver comes to life. */
import { describeBits, has, mask, RingFeature, VhostFeature } from "../core/features.ts";
import { U64 } from "../core/payloads.ts";
import { frontEndMessages, type MessageRow, ProtocolFeature } from "../core/protocol.ts";
import { BackEndRequests, type BackEndRequestsOptions } from "./backend-requests.ts";
import type { Connection } from "./connection.ts";
import { BackEndError } from "./errors.ts";

/**
 * The order in which messages are sent.
 * - `qemu`: features, protocol features, then ownership; rings one after another.
 * - `owner-first`: ownership first, as cloud-hypervisor and Firecracker do; each setting for all
 *   rings before the next one, and the back-end's own channel last.
 */
export type MessageOrder = "qemu" | "owner-first";

/** Ring features that are accepted without being asked for. */
export const ringFeatures: bigint = mask(
  RingFeature.INDIRECT_DESC,
  RingFeature.EVENT_IDX,
  RingFeature.VERSION_1,
);

/** Protocol features that `Frontend` implements. */
export const protocolFeatures: bigint = mask(
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CROSS_ENDIAN,
  ProtocolFeature.CONFIG,
  ProtocolFeature.BACKEND_SEND_FD,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
);

/** Those that are accepted when requests in flight are to be recorded. */
const inflightFeatures: bigint = mask(
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.GET_VRING_BASE_INFLIGHT,
  ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN,
);

export interface NegotiationOptions extends BackEndRequestsOptions {
  readonly order?: MessageOrder;
  /** Virtio features to accept where they are offered; what the ring can use by default. */
  readonly features?: bigint;
  /** Demand packed rings; `features` may accept them where they are offered. */
  readonly packed?: boolean;
  /** Demand that the device completes in order. */
  readonly inOrder?: boolean;
  /**
   * Protocol features to accept where they are offered; all that are implemented by default. Null
   * leaves out bit 30, as front-ends from before 2014 do.
   */
  readonly protocol?: bigint | null;
  /** Accept what it takes to have requests in flight recorded, where it is offered. */
  readonly inflight?: boolean;
}

/** What both sides agreed on. */
export interface Negotiated {
  readonly offered: bigint;
  /** Virtio features to be sent with SET_FEATURES. */
  readonly features: bigint;
  readonly offeredProtocol: bigint;
  readonly protocol: bigint;
  /** Vrings that the back-end has at most; null when it does not say. */
  readonly queues: number | null;
  /** Memory regions that can be added one by one; null when they cannot. */
  readonly memorySlots: number | null;
  /** The back-end's own requests; null when it makes none. */
  readonly requests: BackEndRequests | null;
}

const M = frontEndMessages;

function askU64(connection: Connection, row: MessageRow): bigint {
  return U64.decode(connection.request(row).payload).value;
}

/** Gives the back-end the channel for its requests. */
export function passRequests(connection: Connection, requests: BackEndRequests): void {
  connection.command(M.SET_BACKEND_REQ_FD, undefined, [requests.remote]);
  requests.passed();
  connection.side = requests;
}

function negotiateProtocol(connection: Connection, wanted: bigint) {
  const offeredProtocol = askU64(connection, M.GET_PROTOCOL_FEATURES);
  const protocol = offeredProtocol & wanted;
  connection.send(M.SET_PROTOCOL_FEATURES, U64.encode({ value: protocol }));
  connection.acknowledged = has(protocol, ProtocolFeature.REPLY_ACK);
  return { offeredProtocol, protocol };
}

/** The ring features that the options insist on. Throws when the back-end does not offer them. */
function demanded({ packed, inOrder }: NegotiationOptions, offered: bigint): bigint {
  const bits = [];
  if (packed) bits.push(RingFeature.RING_PACKED);
  if (inOrder) bits.push(RingFeature.IN_ORDER);
  const missing = mask(...bits) & ~offered;
  if (missing !== 0n) {
    const names = describeBits(missing, RingFeature);
    throw new BackEndError("refused", `The back-end does not offer what is asked for: ${names}`);
  }
  return mask(...bits);
}

/** Runs the handshake of a new connection. */
export function negotiate(connection: Connection, options: NegotiationOptions = {}): Negotiated {
  const { order = "qemu", protocol: basic = protocolFeatures, inflight = false } = options;
  const wanted = basic === null ? null : basic | (inflight ? inflightFeatures : 0n);
  const ownerFirst = order === "owner-first";
  if (ownerFirst) connection.command(M.SET_OWNER);
  const offered = askU64(connection, M.GET_FEATURES);
  const features = (options.features ?? ringFeatures) | demanded(options, offered);
  const extended = wanted !== null && has(offered, VhostFeature.PROTOCOL_FEATURES);
  const { offeredProtocol, protocol } = extended
    ? negotiateProtocol(connection, wanted)
    : { offeredProtocol: 0n, protocol: 0n };
  const queues = has(protocol, ProtocolFeature.MQ)
    ? Number(askU64(connection, M.GET_QUEUE_NUM))
    : null;
  const memorySlots = has(protocol, ProtocolFeature.CONFIGURE_MEM_SLOTS)
    ? Number(askU64(connection, M.GET_MAX_MEM_SLOTS))
    : null;
  const requests = has(protocol, ProtocolFeature.BACKEND_REQ) ? new BackEndRequests(options) : null;
  try {
    if (requests !== null && !ownerFirst) passRequests(connection, requests);
    if (!ownerFirst) {
      connection.command(M.SET_OWNER);
      askU64(connection, M.GET_FEATURES);
    }
  } catch (error) {
    requests?.[Symbol.dispose]();
    throw error;
  }
  const own = extended ? mask(VhostFeature.PROTOCOL_FEATURES) : 0n;
  return {
    offered,
    features: (offered & features) | own,
    offeredProtocol,
    protocol,
    queues,
    memorySlots,
    requests,
  };
}
