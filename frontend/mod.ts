/**
 * The other side of vhost-user: a front-end with drivers, for tests, demonstrations and measurements.
 * Everything is synchronous and has a time limit; the back-end runs in another process.
 */
export {
  type BackEndAnswer,
  type BackEndRequest,
  BackEndRequests,
  type BackEndRequestsOptions,
} from "./backend-requests.ts";
export { Connection, type ConnectionOptions, type Reply, type SideChannel } from "./connection.ts";
export { DirtyBits, sendLog, sendLogSignal } from "./dirty-log.ts";
export { DriverRing } from "./driver-ring.ts";
export {
  type BlkConfig,
  BlkDriver,
  BlkError,
  type BlkOptions,
  encodeRanges,
  type RequestDetails,
  type SectorRange,
} from "./drivers/blk.ts";
export { BlkQueue, type BlkQueueOptions, type Framing } from "./drivers/blk-queue.ts";
export { BlkConfigSpace, BlkFeature, BlkRequest, BlkStatus } from "./drivers/blk-wire.ts";
export {
  type CipherRequest,
  type CipherResult,
  CryptoDriver,
  type CryptoOptions,
} from "./drivers/crypto.ts";
export {
  type GpuAnswer,
  GpuDriver,
  type GpuOptions,
  type GpuRect,
  type MemoryPiece,
} from "./drivers/gpu.ts";
export {
  capset,
  capsetInfo,
  createResource3d,
  type GpuBox,
  GpuContext,
  type GpuLayout,
  type GpuShape,
} from "./drivers/gpu-context.ts";
export {
  type DisplayMessage,
  GpuDisplay,
  type GpuDisplayOptions,
  type Screen,
  type ScreenCursor,
} from "./drivers/gpu-display.ts";
export {
  GPU_HEADER,
  GpuBit,
  GpuCommand,
  GpuFormat,
  GpuResponse,
  gpuCommand,
  gpuCommandOf,
  inContext,
  words64,
} from "./drivers/gpu-wire.ts";
export { InputDriver, type InputOptions } from "./drivers/input.ts";
export { InputConfigSpace, type InputEvent, InputSelect } from "./drivers/input-wire.ts";
export {
  type NetConfig,
  NetDriver,
  type NetOptions,
  netFeatures,
  netProtocol,
} from "./drivers/net.ts";
export {
  type FrameHeader,
  NetPair,
  type NetPairOptions,
  type ReceivedFrame,
  type SendOptions,
} from "./drivers/net-pair.ts";
export { NetConfigSpace, NetFeature, NetHeader } from "./drivers/net-wire.ts";
export { RngDriver, type RngOptions } from "./drivers/rng.ts";
export { SimpleQueue, type SimpleQueueOptions } from "./drivers/simple.ts";
export { BackEndError, type Fault } from "./errors.ts";
export { type BackEndAddress, Frontend, type FrontendOptions } from "./frontend.ts";
export {
  GuestMemory,
  GuestRegion,
  type MemoryOptions,
  planRegion,
  type RegionPlan,
} from "./guest-memory.ts";
export { Histogram } from "./histogram.ts";
export { InflightArea } from "./inflight.ts";
export {
  Iommu,
  type IommuOptions,
  type IotlbEntry,
  type IotlbRequest,
  Permission,
} from "./iommu.ts";
export { Journal } from "./journal.ts";
export {
  type MessageOrder,
  type Negotiated,
  type NegotiationOptions,
  negotiate,
  protocolFeatures,
  ringFeatures,
} from "./negotiation.ts";
export { Notifier } from "./notifier.ts";
export { AVAIL, EventFlags, PACKED_BASE, USED } from "./packed-position.ts";
export { PackedRing } from "./packed-ring.ts";
export {
  checkState,
  closeCryptoSession,
  createCryptoSession,
  getSharedMemory,
  getSharedObject,
  kickInBand,
  sendRarp,
  setMtu,
  startStateTransfer,
} from "./parts.ts";
export { fillPattern, isPattern } from "./pattern.ts";
export { type PageServer, Postcopy } from "./postcopy.ts";
export {
  INDIRECT,
  NEXT,
  type RawDescriptor,
  type RingOptions,
  WRITE,
} from "./ring-options.ts";
export type { RingPlace } from "./ring-place.ts";
export { Vring, type VringOptions } from "./vring.ts";
export { PollSet, sleep, waitFor } from "./wait.ts";
export {
  type Progress,
  runWorkload,
  type WorkloadOptions,
  type WorkloadResult,
} from "./workload.ts";
