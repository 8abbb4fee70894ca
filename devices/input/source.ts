/** Where a device's events come from: what every kind of source has to offer. */

/** ID_DEVIDS, each of 16 bits. */
export interface DeviceIds {
  readonly bus: number;
  readonly vendor: number;
  readonly product: number;
  readonly version: number;
}

/** ABS_INFO. */
export interface AxisRange {
  readonly minimum: number;
  readonly maximum: number;
  readonly fuzz: number;
  readonly flat: number;
  /** Units per millimetre, or per radian of a rotation; 0 when not known. */
  readonly resolution: number;
}

/** What the guest is told about the device. Bitmaps have their lowest bit first. */
export interface Description {
  readonly name: string;
  readonly serial: string;
  readonly ids: DeviceIds;
  readonly properties: Uint8Array;
  /** The codes of each type of events that there is. */
  readonly codes: ReadonlyMap<number, Uint8Array>;
  readonly axes: ReadonlyMap<number, AxisRange>;
}

/** The way to the guest. */
export interface EventSink {
  /** Takes one event; EV_SYN with SYN_REPORT ends a packet and sends it. */
  emit(type: number, code: number, value: number): void;
  /** True while a driver takes events and few are waiting: the time for those that can be held back. */
  readonly open: boolean;
  /** True when the driver has got all that was emitted. */
  readonly empty: boolean;
}

export interface Source extends Disposable {
  readonly description: Description;
  /** Called once; events may be emitted from now on. */
  begin(sink: EventSink): void;
  /** The sink is open, and the driver has taken events or made room for some. */
  opened?(): void;
  /** The driver sets an LED, a sound or the repetition of keys. */
  status?(type: number, code: number, value: number): void;
}

/** Tells whether a bitmap has a bit. */
export function hasBit(bitmap: Uint8Array | undefined, bit: number): boolean {
  return bitmap !== undefined && ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
}

/** A bitmap of these bits, as long as the highest one needs. */
export function bitmapOf(bits: readonly number[]): Uint8Array {
  const bitmap = new Uint8Array((Math.max(-1, ...bits) >> 3) + 1);
  for (const bit of bits) bitmap[bit >> 3]! |= 1 << (bit & 7);
  return bitmap;
}
