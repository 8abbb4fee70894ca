/** What a device is written with. */
export { Type } from "typebox";
export { Chain, HeldChain } from "./chain.ts";
export {
  type AsymmetricSession,
  CryptoOperation,
  type CryptoSessionRequest,
  type SymmetricSession,
} from "./crypto-session.ts";
export type { DeclaredProtocol } from "./declared-protocol.ts";
export {
  type AnyDevice,
  type Device,
  type DeviceDefinition,
  defineDevice,
  type FrontEndServices,
  type Host,
  type HostNotifierArea,
  later,
  type Opened,
  type Outcome,
  PENDING,
  type QueueSpec,
  type SharedMapping,
  type SharedRange,
  STOP,
  type Virtqueue,
} from "./device.ts";
export { GuestError, ProtocolError } from "./errors.ts";
export { describeBits, has, mask, RingFeature, VhostFeature } from "./features.ts";
export { type Layout, layout, le16, le32, le64, le64Array, raw, u8 } from "./layout.ts";
export { Log, type LogFields, type LogLevel, type LogRecord, type LogSink } from "./log.ts";
export type { Watch } from "./loop.ts";
