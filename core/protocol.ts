/**
 * The vhost-user protocol as data: one row per message. Validation, dispatch, tracing, the
 * documentation's table and the front-end read the same rows.
 */
import { type PayloadName, payloadSizes } from "./payloads.ts";

/** Protocol feature bits (vhost-user: Protocol features). */
export const ProtocolFeature = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  NET_MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
  XEN_MMAP: 17,
  SHARED_OBJECT: 18,
  DEVICE_STATE: 19,
  GET_VRING_BASE_INFLIGHT: 20,
  GPA_ADDRESSES: 21,
  SHMEM: 22,
  GET_VRING_BASE_SKIP_DRAIN: 23,
} as const;

/** Header flags. A reply carries exactly `VERSION | REPLY`; NEED_REPLY is never echoed. */
export const Flag = { VERSION: 1, VERSION_MASK: 3, REPLY: 4, NEED_REPLY: 8 } as const;

/** How a message is answered. */
export type ReplyRule =
  /** A u64, 0 for success, when REPLY_ACK is negotiated and the message asks for it. */
  | "ack"
  /** Always this payload. */
  | {
      readonly payload: PayloadName;
      /** Most descriptors the reply carries. */
      readonly fds?: number;
      /** The u64 that refuses the request. Without one, refusing it ends the connection. */
      readonly refusal?: bigint;
    };

export interface MessageRow {
  readonly code: number;
  readonly name: string;
  readonly payload: PayloadName;
  /** Fewest and most descriptors the message carries. */
  readonly fds: readonly [min: number, max: number];
  readonly reply: ReplyRule;
  /** The protocol feature that must be negotiated first. */
  readonly needs?: number;
}

const P = ProtocolFeature;

/** A message that is acknowledged on demand and carries nothing, unless `extra` says otherwise. */
export function row(
  code: number,
  name: string,
  payload: PayloadName = "none",
  extra: Partial<Pick<MessageRow, "fds" | "reply" | "needs">> = {},
): MessageRow {
  return { code, name, payload, fds: [0, 0], reply: "ack", ...extra };
}

const own = (payload: PayloadName, fds = 0): ReplyRule => ({ payload, fds });

/** Always a u64: 0 or what else succeeds, and `refusal`. */
const status = (refusal: bigint, fds = 0): ReplyRule => ({ payload: "u64", fds, refusal });

/** Fields of the reply to SET_DEVICE_STATE_FD: an error number, and "no descriptor comes". */
export const StateReply = { ERROR: 0xff, NO_FD: 0x100 } as const;

/** Messages from the front-end (vhost-user: Front-end message types). */
export const frontEndMessages = {
  GET_FEATURES: row(1, "GET_FEATURES", "none", { reply: own("u64") }),
  SET_FEATURES: row(2, "SET_FEATURES", "u64"),
  SET_OWNER: row(3, "SET_OWNER"),
  RESET_OWNER: row(4, "RESET_OWNER"),
  SET_MEM_TABLE: row(5, "SET_MEM_TABLE", "memTable", { fds: [0, 8] }),
  SET_LOG_BASE: row(6, "SET_LOG_BASE", "log", {
    fds: [1, 1],
    reply: status(1n),
    needs: P.LOG_SHMFD,
  }),
  SET_LOG_FD: row(7, "SET_LOG_FD", "optionalU64", { fds: [1, 1] }),
  SET_VRING_NUM: row(8, "SET_VRING_NUM", "vringState"),
  SET_VRING_ADDR: row(9, "SET_VRING_ADDR", "vringAddr"),
  SET_VRING_BASE: row(10, "SET_VRING_BASE", "vringState"),
  GET_VRING_BASE: row(11, "GET_VRING_BASE", "vringState", { reply: own("vringState") }),
  SET_VRING_KICK: row(12, "SET_VRING_KICK", "u64", { fds: [0, 1] }),
  SET_VRING_CALL: row(13, "SET_VRING_CALL", "u64", { fds: [0, 1] }),
  SET_VRING_ERR: row(14, "SET_VRING_ERR", "u64", { fds: [0, 1] }),
  GET_PROTOCOL_FEATURES: row(15, "GET_PROTOCOL_FEATURES", "none", { reply: own("u64") }),
  SET_PROTOCOL_FEATURES: row(16, "SET_PROTOCOL_FEATURES", "u64"),
  GET_QUEUE_NUM: row(17, "GET_QUEUE_NUM", "none", { reply: own("u64"), needs: P.MQ }),
  SET_VRING_ENABLE: row(18, "SET_VRING_ENABLE", "vringState"),
  SEND_RARP: row(19, "SEND_RARP", "u64", { needs: P.RARP }),
  NET_SET_MTU: row(20, "NET_SET_MTU", "u64", { needs: P.NET_MTU }),
  SET_BACKEND_REQ_FD: row(21, "SET_BACKEND_REQ_FD", "none", {
    fds: [1, 1],
    needs: P.BACKEND_REQ,
  }),
  IOTLB_MSG: row(22, "IOTLB_MSG", "iotlb", { reply: status(1n) }),
  SET_VRING_ENDIAN: row(23, "SET_VRING_ENDIAN", "vringState", { needs: P.CROSS_ENDIAN }),
  GET_CONFIG: row(24, "GET_CONFIG", "config", { reply: own("config"), needs: P.CONFIG }),
  SET_CONFIG: row(25, "SET_CONFIG", "config", { needs: P.CONFIG }),
  CREATE_CRYPTO_SESSION: row(26, "CREATE_CRYPTO_SESSION", "cryptoSession", {
    reply: own("cryptoSession"),
    needs: P.CRYPTO_SESSION,
  }),
  CLOSE_CRYPTO_SESSION: row(27, "CLOSE_CRYPTO_SESSION", "u64", { needs: P.CRYPTO_SESSION }),
  POSTCOPY_ADVISE: row(28, "POSTCOPY_ADVISE", "none", {
    reply: own("none", 1),
    needs: P.PAGEFAULT,
  }),
  POSTCOPY_LISTEN: row(29, "POSTCOPY_LISTEN", "none", { needs: P.PAGEFAULT }),
  POSTCOPY_END: row(30, "POSTCOPY_END", "none", { reply: status(1n), needs: P.PAGEFAULT }),
  GET_INFLIGHT_FD: row(31, "GET_INFLIGHT_FD", "inflight", {
    reply: own("inflight", 1),
    needs: P.INFLIGHT_SHMFD,
  }),
  SET_INFLIGHT_FD: row(32, "SET_INFLIGHT_FD", "inflight", {
    fds: [1, 1],
    needs: P.INFLIGHT_SHMFD,
  }),
  GPU_SET_SOCKET: row(33, "GPU_SET_SOCKET", "none", { fds: [1, 1] }),
  RESET_DEVICE: row(34, "RESET_DEVICE", "none", { needs: P.RESET_DEVICE }),
  VRING_KICK: row(35, "VRING_KICK", "vringState", { needs: P.INBAND_NOTIFICATIONS }),
  GET_MAX_MEM_SLOTS: row(36, "GET_MAX_MEM_SLOTS", "none", {
    reply: own("u64"),
    needs: P.CONFIGURE_MEM_SLOTS,
  }),
  ADD_MEM_REG: row(37, "ADD_MEM_REG", "memRegion", { fds: [1, 1], needs: P.CONFIGURE_MEM_SLOTS }),
  // Some front-ends attach the region's descriptor here too; it is closed unread.
  REM_MEM_REG: row(38, "REM_MEM_REG", "memRegion", { fds: [0, 1], needs: P.CONFIGURE_MEM_SLOTS }),
  SET_STATUS: row(39, "SET_STATUS", "u64", { needs: P.STATUS }),
  GET_STATUS: row(40, "GET_STATUS", "none", { reply: own("u64"), needs: P.STATUS }),
  GET_SHARED_OBJECT: row(41, "GET_SHARED_OBJECT", "optionalUuid", {
    reply: own("none", 1),
    needs: P.SHARED_OBJECT,
  }),
  SET_DEVICE_STATE_FD: row(42, "SET_DEVICE_STATE_FD", "deviceState", {
    fds: [1, 1],
    reply: status(BigInt(StateReply.NO_FD) | 1n, 1),
    needs: P.DEVICE_STATE,
  }),
  CHECK_DEVICE_STATE: row(43, "CHECK_DEVICE_STATE", "none", {
    reply: status(1n),
    needs: P.DEVICE_STATE,
  }),
  GET_SHMEM_CONFIG: row(44, "GET_SHMEM_CONFIG", "none", {
    reply: own("shmemConfig"),
    needs: P.SHMEM,
  }),
  GET_VRING_BASE_SKIP_DRAIN: row(45, "GET_VRING_BASE_SKIP_DRAIN", "vringState", {
    reply: own("vringState"),
    needs: P.GET_VRING_BASE_SKIP_DRAIN,
  }),
} as const satisfies Record<string, MessageRow>;

export type FrontEndMessage = keyof typeof frontEndMessages;

/** Messages from the back-end (vhost-user: Back-end message types). */
export const backEndMessages = {
  IOTLB_MSG: row(1, "IOTLB_MSG", "iotlb"),
  CONFIG_CHANGE_MSG: row(2, "CONFIG_CHANGE_MSG", "none", { needs: P.CONFIG }),
  VRING_HOST_NOTIFIER_MSG: row(3, "VRING_HOST_NOTIFIER_MSG", "vringArea", {
    fds: [0, 1],
    needs: P.HOST_NOTIFIER,
  }),
  VRING_CALL: row(4, "VRING_CALL", "vringState", { needs: P.INBAND_NOTIFICATIONS }),
  VRING_ERR: row(5, "VRING_ERR", "vringState", { needs: P.INBAND_NOTIFICATIONS }),
  SHARED_OBJECT_ADD: row(6, "SHARED_OBJECT_ADD", "uuid", { needs: P.SHARED_OBJECT }),
  SHARED_OBJECT_REMOVE: row(7, "SHARED_OBJECT_REMOVE", "uuid", { needs: P.SHARED_OBJECT }),
  SHARED_OBJECT_LOOKUP: row(8, "SHARED_OBJECT_LOOKUP", "uuid", {
    reply: own("u64", 1),
    needs: P.SHARED_OBJECT,
  }),
  SHMEM_MAP: row(9, "SHMEM_MAP", "shmemMap", { fds: [1, 1], needs: P.SHMEM }),
  SHMEM_UNMAP: row(10, "SHMEM_UNMAP", "shmemMap", { needs: P.SHMEM }),
} as const satisfies Record<string, MessageRow>;

export type BackEndMessage = keyof typeof backEndMessages;

/** Rows of the front-end's messages by code. */
export const frontEndMessageByCode: ReadonlyMap<number, MessageRow> = new Map(
  Object.values(frontEndMessages).map((message) => [message.code, message]),
);

/** Bytes of the largest payload of any message. */
export const MAX_PAYLOAD = Math.max(...Object.values(payloadSizes).map((size) => size.max));

/** Fields of the u64 of SET_VRING_KICK, CALL and ERR: vring index, and "no descriptor comes". */
export const VRING_INDEX_MASK = 0xff;
export const VRING_NO_FD = 0x100;
/** Flag of SET_VRING_ADDR: writes to the used ring are marked in the dirty log. */
export const VRING_LOG = 1;

/** Types of IOTLB messages. */
export const IotlbMessage = { MISS: 1, UPDATE: 2, INVALIDATE: 3, ACCESS_FAIL: 4 } as const;

/** Flags of SET_CONFIG. */
export const ConfigFlag = { WRITABLE: 0, MIGRATION: 1 } as const;

/** The largest virtqueue (virtio 1.3, 2.7). */
export const MAX_QUEUE_SIZE = 32768;

/** Regions that ADD_MEM_REG may add up to: what Linux vhost and QEMU support. */
export const MAX_MEM_SLOTS = 509;

/** Device status bits (virtio 1.3, 2.1). */
export const DeviceStatus = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 64,
  FAILED: 128,
} as const;
