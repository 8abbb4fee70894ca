/** An EDID 1.4 base block (VESA E-EDID A2): what a monitor tells of itself. */

/** What an EDID is made of. Sizes in pixels. */
export interface Monitor {
  readonly width: number;
  readonly height: number;
  /** Up to 13 characters of ASCII. */
  readonly name: string;
  readonly serial: number;
}

export const EDID_SIZE = 128;

/** A detailed timing has 12 bits for a side, and 16 for the pixel clock in units of 10 kHz. */
const MAX_ACTIVE = 4095;
const MAX_CLOCK = 65535;
const REFRESH = 60;
/** Reduced blanking, about that of CVT: pixels and lines, and where the pulses are in them. */
const BLANK = { x: 160, y: 30, syncX: 48, pulseX: 32, syncY: 3, pulseY: 5 } as const;
/** Pixels per inch, which is what makes a size of a number of pixels. */
const DENSITY = 96;
const MM_PER_INCH = 25.4;

const DETAILED = 54;
const NAME = 72;
const RANGE = 90;
const DUMMY = 108;

/** sRGB primaries and white point (E-EDID A2, 3.7). */
const CHROMATICITY = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];

/** Three letters in five bits each. */
function manufacturer(letters: string): number {
  return [...letters].reduce((id, letter) => (id << 5) | (letter.charCodeAt(0) - 64), 0);
}

/** Makes an EDID with one mode, the preferred one. Sides above 4095 cannot be told and are cut. */
export function makeEdid({ width, height, name, serial }: Monitor): Uint8Array {
  const edid = new Uint8Array(EDID_SIZE);
  const view = new DataView(edid.buffer);
  const active = { x: Math.min(width, MAX_ACTIVE), y: Math.min(height, MAX_ACTIVE) };
  const mm = {
    x: Math.round((active.x * MM_PER_INCH) / DENSITY),
    y: Math.round((active.y * MM_PER_INCH) / DENSITY),
  };
  edid.set([0, 255, 255, 255, 255, 255, 255, 0]);
  view.setUint16(8, manufacturer("RGS"));
  view.setUint16(10, 1, true);
  view.setUint32(12, serial, true);
  edid[17] = 2026 - 1990;
  edid[18] = 1;
  edid[19] = 4;
  // Digital, 8 bits per colour, DisplayPort.
  edid[20] = 0xa5;
  edid[21] = Math.min(255, Math.round(mm.x / 10));
  edid[22] = Math.min(255, Math.round(mm.y / 10));
  // Gamma 2.2. The colour space is sRGB, and the first mode is the native one.
  edid[23] = 120;
  edid[24] = 0x06;
  edid.set(CHROMATICITY, 25);
  // No standard timings.
  edid.fill(1, 38, 54);
  writeTiming(view, active, mm);
  writeText(edid, NAME, 0xfc, name);
  // Refresh rates 30 to 75 Hz, lines 15 to 255 kHz, clocks to 660 MHz, no formula for others.
  edid.set([0, 0, 0, 0xfd, 0, 30, 75, 15, 255, 66, 1, 0x0a], RANGE);
  edid.fill(0x20, RANGE + 12, RANGE + 18);
  edid[DUMMY + 3] = 0x10;
  edid[127] = -edid.reduce((sum, byte) => sum + byte, 0);
  return edid;
}

interface Pair {
  readonly x: number;
  readonly y: number;
}

/** The detailed timing of the preferred mode (E-EDID A2, 3.10.2). */
function writeTiming(view: DataView, active: Pair, mm: Pair): void {
  const total = (active.x + BLANK.x) * (active.y + BLANK.y);
  // Very large modes are shown less often.
  const clock = Math.min(MAX_CLOCK, Math.round((total * REFRESH) / 10_000));
  const high = (a: number, b: number) => ((a >> 8) << 4) | (b >> 8);
  view.setUint16(DETAILED, clock, true);
  const rest = [
    active.x & 0xff,
    BLANK.x,
    high(active.x, BLANK.x),
    active.y & 0xff,
    BLANK.y,
    high(active.y, BLANK.y),
    BLANK.syncX,
    BLANK.pulseX,
    (BLANK.syncY << 4) | BLANK.pulseY,
    0,
    mm.x & 0xff,
    mm.y & 0xff,
    high(mm.x, mm.y),
    0,
    0,
    // Separate digital synchronisation, horizontal positive.
    0x1a,
  ];
  for (const [i, byte] of rest.entries()) view.setUint8(DETAILED + 2 + i, byte);
}

/** A display descriptor with text, which a line feed ends. */
function writeText(edid: Uint8Array, at: number, tag: number, text: string): void {
  edid[at + 3] = tag;
  edid.fill(0x20, at + 5, at + 18);
  edid.set(new TextEncoder().encode(text.slice(0, 13)), at + 5);
  if (text.length < 13) edid[at + 5 + text.length] = 0x0a;
}
