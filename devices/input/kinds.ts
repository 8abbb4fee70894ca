/** The devices that are played by scripts and programs: what the guest is told about each. */
import { keyCodes } from "./key-names.ts";
import { type AxisRange, bitmapOf, type Description } from "./source.ts";
import { Abs, Bus, Button, EventType, Property, Rel } from "./wire.ts";

export const kinds = ["keyboard", "mouse", "tablet", "multitouch"] as const;
export type Kind = (typeof kinds)[number];

/** The largest coordinate of tablets and touch screens. */
export const AXIS_MAXIMUM = 32767;
/** Contacts of a touch screen. */
export const CONTACTS = 10;
/** Contacts get new numbers up to this one, then from 0 again. */
export const TRACKING_MAXIMUM = 65535;

const { KEY, REL, ABS, LED, REP } = EventType;

const buttons = [Button.LEFT, Button.RIGHT, Button.MIDDLE, Button.SIDE, Button.EXTRA];
const wheels = [Rel.WHEEL, Rel.HWHEEL];

const axis = (maximum: number): AxisRange => ({
  minimum: 0,
  maximum,
  fuzz: 0,
  flat: 0,
  resolution: 0,
});

const screen: readonly (readonly [number, AxisRange])[] = [
  [Abs.X, axis(AXIS_MAXIMUM)],
  [Abs.Y, axis(AXIS_MAXIMUM)],
];

const contacts: readonly (readonly [number, AxisRange])[] = [
  [Abs.MT_SLOT, axis(CONTACTS - 1)],
  [Abs.MT_TRACKING_ID, axis(TRACKING_MAXIMUM)],
  [Abs.MT_POSITION_X, axis(AXIS_MAXIMUM)],
  [Abs.MT_POSITION_Y, axis(AXIS_MAXIMUM)],
];

interface Shape {
  readonly codes: Readonly<Record<number, readonly number[]>>;
  readonly axes?: readonly (readonly [number, AxisRange])[];
  readonly properties?: readonly number[];
}

/** With the classes of events that guests tell these devices by; Windows drivers are particular. */
const shapes: Readonly<Record<Kind, Shape>> = {
  keyboard: {
    // Num lock, caps lock and scroll lock; both settings of repetition.
    codes: { [KEY]: [...keyCodes.values()], [LED]: [0, 1, 2], [REP]: [0, 1] },
  },
  mouse: { codes: { [KEY]: buttons, [REL]: [Rel.X, Rel.Y, ...wheels] } },
  tablet: { codes: { [KEY]: buttons, [REL]: wheels }, axes: screen },
  multitouch: {
    codes: { [KEY]: [Button.TOUCH] },
    axes: [...screen, ...contacts],
    properties: [Property.DIRECT],
  },
};

/** Describes a device of a kind. */
export function describeKind(
  kind: Kind,
  { name = `Ringside ${kind}`, serial = "" }: { name?: string; serial?: string } = {},
): Description {
  const { codes, axes = [], properties = [] } = shapes[kind];
  const all: Record<number, readonly number[]> = { ...codes };
  if (axes.length > 0) all[ABS] = axes.map(([code]) => code);
  return {
    name,
    serial,
    ids: { bus: Bus.VIRTUAL, vendor: 0, product: kinds.indexOf(kind) + 1, version: 1 },
    properties: bitmapOf(properties),
    codes: new Map(Object.entries(all).map(([type, bits]) => [Number(type), bitmapOf(bits)])),
    axes: new Map(axes),
  };
}
