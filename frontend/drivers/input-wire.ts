/** What an input driver knows of the device (virtio 1.3, 5.8). */

/** Offsets in config space (virtio 1.3, 5.8.4). */
export const InputConfigSpace = { size: 136, select: 0, subsel: 1, length: 2, data: 8 } as const;

export const InputSelect = {
  NAME: 0x01,
  SERIAL: 0x02,
  IDS: 0x03,
  PROPERTIES: 0x10,
  EVENT_BITS: 0x11,
  AXIS: 0x12,
} as const;

/** Bytes of an event, in either direction. */
export const INPUT_EVENT_SIZE = 8;

/** An event (virtio 1.3, 5.8.6). The wire has 32 bits without a sign; drivers read them with one. */
export interface InputEvent {
  readonly type: number;
  readonly code: number;
  readonly value: number;
}

export function encodeInputEvent({ type, code, value }: InputEvent): Uint8Array {
  const bytes = new Uint8Array(INPUT_EVENT_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type, true);
  view.setUint16(2, code, true);
  view.setInt32(4, value, true);
  return bytes;
}

export function decodeInputEvent(bytes: Uint8Array): InputEvent {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    type: view.getUint16(0, true),
    code: view.getUint16(2, true),
    value: view.getInt32(4, true),
  };
}
