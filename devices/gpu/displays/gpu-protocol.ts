/** The GPU protocol's numbers and layouts (vhost-user-gpu: Communication). */

/** A message begins with request, flags and size, each a u32. */
export const MessageHeader = { size: 12, request: 0, flags: 4, length: 8 } as const;

/** `MessageHeader.flags` of a reply; those of a request are 0. */
export const REPLY = 4;

/** Requests, all of which the back-end makes. */
export const GpuRequest = {
  GET_PROTOCOL_FEATURES: 1,
  SET_PROTOCOL_FEATURES: 2,
  GET_DISPLAY_INFO: 3,
  CURSOR_POS: 4,
  CURSOR_POS_HIDE: 5,
  CURSOR_UPDATE: 6,
  SCANOUT: 7,
  UPDATE: 8,
  GET_EDID: 11,
} as const;

/** Bits of the GPU protocol's own features. */
export const GpuProtocolFeature = { EDID: 0 } as const;

/** Bytes of payloads; those of an update and of a cursor without pixels. */
export const Payload = {
  features: 8,
  displayInfo: 408,
  edidRequest: 4,
  edid: 1056,
  position: 12,
  cursor: 20,
  scanout: 12,
  update: 20,
} as const;
