/** The payloads of vhost-user messages as layouts (vhost-user: Message Specification). */
import { Type } from "typebox";
import { layout, le16, le32, le64, le64Array, raw, u8 } from "./layout.ts";

/** Message header; `size` counts the payload's bytes. */
export const Header = layout(Type.Object({ request: le32(), flags: le32(), size: le32() }));

export const U64 = layout(Type.Object({ value: le64() }));

/** Vring state description. */
export const VringState = layout(Type.Object({ index: le32(), num: le32() }));

/** Vring address description. The seed document's table shows a size column; the wire has none. */
export const VringAddr = layout(
  Type.Object({
    index: le32(),
    flags: le32(),
    descriptor: le64(),
    used: le64(),
    available: le64(),
    log: le64(),
  }),
);

/** One entry of a memory regions description. */
export const Region = layout(
  Type.Object({ guestAddress: le64(), size: le64(), userAddress: le64(), mmapOffset: le64() }),
);

/** The same with XEN_MMAP; the domain's memory is granted or foreign, as the flags say. */
export const XenRegion = layout(
  Type.Object({
    guestAddress: le64(),
    size: le64(),
    userAddress: le64(),
    mmapOffset: le64(),
    flags: le32(),
    domain: le32(),
  }),
);

/** Memory regions description without its entries. */
export const MemTableHeader = layout(Type.Object({ count: le32(), padding: le32() }));

/** Single memory region description. */
export const SingleRegion = layout(
  Type.Object({
    padding: le64(),
    guestAddress: le64(),
    size: le64(),
    userAddress: le64(),
    mmapOffset: le64(),
  }),
);

/** Log description. */
export const LogArea = layout(Type.Object({ size: le64(), offset: le64() }));

/** An IOTLB message; 26 bytes of meaning in 32. */
export const Iotlb = layout(
  Type.Object({
    iova: le64(),
    size: le64(),
    userAddress: le64(),
    permission: u8(),
    type: u8(),
    padding: raw(6),
  }),
);

/** Virtio device config space without its bytes. */
export const ConfigHeader = layout(Type.Object({ offset: le32(), size: le32(), flags: le32() }));

/** Vring area description. */
export const VringArea = layout(Type.Object({ index: le64(), size: le64(), offset: le64() }));

/** In-flight description; 20 bytes of meaning in 24. */
export const Inflight = layout(
  Type.Object({
    size: le64(),
    offset: le64(),
    queues: le16(),
    queueSize: le16(),
    padding: le32(),
  }),
);

/** A shared object's UUID, its first three fields big-endian. */
export const Uuid = layout(Type.Object({ uuid: raw(16) }));

/** Device state transfer parameters. */
export const DeviceState = layout(Type.Object({ direction: le32(), phase: le32() }));

/** SHMEM_MAP and SHMEM_UNMAP requests of the back-end. */
export const ShmemMap = layout(
  Type.Object({
    region: u8(),
    padding: raw(7),
    fdOffset: le64(),
    regionOffset: le64(),
    length: le64(),
    flags: le64(),
  }),
);

/** Shared memory regions of a device; a region's id is its place in `sizes`. */
export const ShmemConfig = layout(
  Type.Object({ count: le32(), padding: le32(), sizes: le64Array(256) }),
);

/** Crypto session description; `body` is read by the crypto device. */
export const CryptoSession = layout(
  Type.Object({ operation: le64(), body: raw(1056), sessionId: le64() }),
);

/** Back-end specifications, of the draft `standalone`. */
export const BackendSpecs = layout(
  Type.Object({ deviceId: le32(), configSize: le32(), minQueues: le32(), maxQueues: le32() }),
);

/** The largest config space a message carries. */
export const MAX_CONFIG_SIZE = 256;

/** Regions of a whole memory table; more need CONFIGURE_MEM_SLOTS. */
export const MAX_TABLE_REGIONS = 8;

/** The sizes a payload may have, in bytes. */
export interface PayloadSize {
  readonly min: number;
  readonly max: number;
}

const exactly = (size: number): PayloadSize => ({ min: size, max: size });

/** Sizes of the payloads by the names that the message rows use. */
export const payloadSizes = {
  none: exactly(0),
  u64: exactly(U64.size),
  vringState: exactly(VringState.size),
  vringAddr: exactly(VringAddr.size),
  memTable: {
    // Empty where it answers the reply that lists the addresses of postcopied memory.
    min: 0,
    max: MemTableHeader.size + MAX_TABLE_REGIONS * XenRegion.size,
  },
  // libvhost-user's own front-ends of 2019 sent the region without its leading padding.
  memRegion: { min: Region.size, max: SingleRegion.size - Region.size + XenRegion.size },
  // With LOG_SHMFD an area, without it a bare address.
  log: exactly(LogArea.size),
  // QEMU sends a u64 that nobody reads, others nothing.
  optionalU64: { min: 0, max: U64.size },
  iotlb: exactly(Iotlb.size),
  config: { min: ConfigHeader.size, max: ConfigHeader.size + MAX_CONFIG_SIZE },
  vringArea: exactly(VringArea.size),
  inflight: exactly(Inflight.size),
  uuid: exactly(Uuid.size),
  // QEMU announces size 0 with GET_SHARED_OBJECT, so that the UUID is not on the wire.
  optionalUuid: { min: 0, max: Uuid.size },
  deviceState: exactly(DeviceState.size),
  shmemMap: exactly(ShmemMap.size),
  shmemConfig: exactly(ShmemConfig.size),
  cryptoSession: exactly(CryptoSession.size),
  backendSpecs: exactly(BackendSpecs.size),
} as const satisfies Record<string, PayloadSize>;

export type PayloadName = keyof typeof payloadSizes;
