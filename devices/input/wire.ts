/** The input device's numbers and layouts (virtio 1.3, 5.8), and those of Linux that it takes over. */
import { Type } from "typebox";
import { layout, raw, u8 } from "../../core/layout.ts";

/** Bytes of `InputConfig.data`: the longest answer there is. */
export const DATA_SIZE = 128;

/** Config space (virtio 1.3, 5.8.4). The driver writes `select` and `subsel`, then reads the rest. */
export const InputConfig = layout(
  Type.Object({ select: u8(), subsel: u8(), size: u8(), reserved: raw(5), data: raw(DATA_SIZE) }),
);

/** `InputConfig.select`. */
export const Select = {
  UNSET: 0x00,
  ID_NAME: 0x01,
  ID_SERIAL: 0x02,
  ID_DEVIDS: 0x03,
  PROP_BITS: 0x10,
  EV_BITS: 0x11,
  ABS_INFO: 0x12,
} as const;

/** An event on either queue (virtio 1.3, 5.8.6): type u16, code u16, value u32. */
export const Event = { size: 8, type: 0, code: 2, value: 4 } as const;

/** Types of events (linux/input-event-codes.h). */
export const EventType = {
  SYN: 0x00,
  KEY: 0x01,
  REL: 0x02,
  ABS: 0x03,
  MSC: 0x04,
  SW: 0x05,
  LED: 0x11,
  SND: 0x12,
  REP: 0x14,
} as const;

/** Types with bits of their own in config space, and how many codes each has. */
export const codeCounts: ReadonlyMap<number, number> = new Map([
  [EventType.KEY, 0x300],
  [EventType.REL, 0x10],
  [EventType.ABS, 0x40],
  [EventType.MSC, 0x08],
  [EventType.SW, 0x11],
  [EventType.LED, 0x10],
  [EventType.SND, 0x08],
  [EventType.REP, 0x02],
]);

export const Syn = { REPORT: 0, DROPPED: 3 } as const;

/** Values of a key. */
export const KeyValue = { UP: 0, DOWN: 1, REPEAT: 2 } as const;

export const Rel = { X: 0x00, Y: 0x01, HWHEEL: 0x06, WHEEL: 0x08 } as const;

/** Axes; those from `MT_FIRST` to `MT_LAST` belong to the contact that `MT_SLOT` names. */
export const Abs = {
  X: 0x00,
  Y: 0x01,
  MT_SLOT: 0x2f,
  MT_FIRST: 0x30,
  MT_POSITION_X: 0x35,
  MT_POSITION_Y: 0x36,
  MT_TRACKING_ID: 0x39,
  MT_LAST: 0x3d,
} as const;

export const Button = {
  LEFT: 0x110,
  RIGHT: 0x111,
  MIDDLE: 0x112,
  SIDE: 0x113,
  EXTRA: 0x114,
  TOUCH: 0x14a,
} as const;

/** Properties of a device. */
export const Property = { DIRECT: 0x01 } as const;

/** Bus types of `DeviceIds`. */
export const Bus = { VIRTUAL: 0x06 } as const;
