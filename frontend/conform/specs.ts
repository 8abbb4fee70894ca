/** Messages of drafts, whose numbers mean something else in vhost-user as it is now. */
import { has, mask } from "../../core/features.ts";
import { BackendSpecs, Header, U64 } from "../../core/payloads.ts";
import { type MessageRow, ProtocolFeature } from "../../core/protocol.ts";
import type { Connection } from "../connection.ts";
import { BackEndError } from "../errors.ts";
import { protocolFeatures } from "../negotiation.ts";
import type { DeviceKind } from "./exercises.ts";
import { M, u64 } from "./wire.ts";

/** What GET_BACKEND_SPECS tells of a device. */
export interface Specs {
  /** As virtio numbers devices (virtio 1.3, 5). */
  readonly deviceId: number;
  /** Bytes of config space. */
  readonly configSize: number;
  readonly minQueues: number;
  readonly maxQueues: number;
}

/** Bit 18, which is SHARED_OBJECT where message 41 is GET_SHARED_OBJECT. */
const STANDALONE = ProtocolFeature.SHARED_OBJECT;
const VHOST_PCI = ProtocolFeature.NET_MTU;

const GET_BACKEND_SPECS: MessageRow = {
  ...M.GET_SHARED_OBJECT,
  name: "GET_BACKEND_SPECS",
  payload: "none",
  reply: { payload: "backendSpecs" },
};

const kinds: Readonly<Record<number, DeviceKind>> = {
  1: "net",
  2: "blk",
  4: "rng",
  16: "gpu",
  18: "input",
};

/** The kind of device that specs tell of; null for one that no check is about. */
export const kindOf = ({ deviceId }: Specs): DeviceKind | null => kinds[deviceId] ?? null;

/** The features of a session in which specs can be asked for. */
export const specsProtocol = (offered: bigint): bigint =>
  offered & (protocolFeatures | mask(STANDALONE));

/** Tells whether a back-end may serve GET_BACKEND_SPECS. */
export const maySpeak = (offered: bigint): boolean => has(offered, STANDALONE);

/**
 * Asks a new connection what the device is. Null where bit 18 means SHARED_OBJECT: then a message 41
 * without a UUID is refused.
 */
export function askSpecs(connection: Connection, offered: bigint): Specs | null {
  connection.request(M.GET_FEATURES);
  connection.send(M.SET_PROTOCOL_FEATURES, u64(specsProtocol(offered)));
  try {
    return BackendSpecs.decode(connection.request(GET_BACKEND_SPECS).payload);
  } catch (error) {
    if (error instanceof BackEndError) return null;
    throw error;
  }
}

/**
 * Accepts VHOST_PCI and these features. Returns those that the back-end then sends of its own accord;
 * null when it sends nothing.
 */
export function awaitAnnouncement(
  connection: Connection,
  features: bigint,
  milliseconds: number,
): bigint | null {
  connection.send(M.SET_PROTOCOL_FEATURES, u64(mask(VHOST_PCI)));
  connection.send(M.SET_FEATURES, u64(features));
  const message = connection.receiveRaw(Header.size + U64.size, milliseconds);
  if (message === null || message.length < Header.size + U64.size) return null;
  const { request } = Header.decode(message);
  return request === M.SET_FEATURES.code ? U64.decode(message, Header.size).value : null;
}
