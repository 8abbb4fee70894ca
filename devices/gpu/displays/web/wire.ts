/**
 * What server and page say to each other over the WebSocket. The server's messages are binary: a
 * header of u32 in little-endian, then pixels, B8G8R8A8. The page's are JSON.
 */
import { MAX_SIDE } from "../../commands.ts";

/** Where the numbers of a message are, in bytes. All have `type` and `output`. */
export const WebHeader = { size: 28, type: 0, output: 4, numbers: 8 } as const;

/** The server's messages, and their numbers. */
export const WebMessage = {
  /** The first one, and again: 1 when keys and pointer go somewhere; 1 when sizes may be proposed. */
  HELLO: 0,
  /** Width, height; 0 and 0 when the output shows nothing. */
  SIZE: 1,
  /** x, y, width, height; the pixels' rows follow. */
  PIXELS: 2,
  /** x, y, x and y of the hot spot, 1 when it is to be seen; 64 rows of 64 pixels follow if new. */
  CURSOR: 3,
} as const;

/** What the page tells. It says `seen` for each message that it has shown: then there is room for more. */
export type PageMessage =
  | { readonly seen: true }
  /** `code` of a KeyboardEvent. */
  | { readonly key: string; readonly down: boolean }
  /** `button` of a PointerEvent. */
  | { readonly button: number; readonly down: boolean }
  /** A place on an output, as parts of its width and height from 0 to 1. */
  | { readonly output: number; readonly x: number; readonly y: number }
  /** A size that an output should have. */
  | { readonly output: number; readonly width: number; readonly height: number }
  /** Notches, up and to the right. */
  | { readonly up: number; readonly right: number };

/** Takes what viewers do. */
export interface ViewerInput {
  /** `code` of a KeyboardEvent (UI Events KeyboardEvent code Values). */
  key(code: string, down: boolean): void;
  /** `button` of a PointerEvent (Pointer Events, 5.1.1): 0 left, 1 middle, 2 right, 3 back, 4 forward. */
  button(button: number, down: boolean): void;
  /** A place on an output, as parts of its width and height from 0 to 1. */
  moveTo(output: number, x: number, y: number): void;
  /** Notches of the wheel, up and to the right. */
  wheel(up: number, right: number): void;
}

/** What viewers may do. */
export interface ViewerControls {
  readonly input: ViewerInput;
  /** True while `resize` means something. */
  readonly resizable: boolean;
  /** Proposes a size to the guest, in pixels. */
  resize(output: number, width: number, height: number): void;
}

const MAX_CODE = 32;
const MAX_BUTTON = 4;
const MAX_NOTCHES = 100;

const isPart = (value: unknown): value is number =>
  typeof value === "number" && value >= 0 && value <= 1;
const isWhole = (value: unknown, minimum: number, maximum: number): value is number =>
  Number.isInteger(value) && (value as number) >= minimum && (value as number) <= maximum;

/** Reads a message of the page. Null for anything that is none. */
export function readPageMessage(text: string, outputs: number): PageMessage | null {
  let value: Record<string, unknown>;
  try {
    value = Object(JSON.parse(text));
  } catch {
    return null;
  }
  const { seen, key, button, down, output, x, y, width, height, up, right } = value;
  if (seen === true) return { seen };
  if (typeof down === "boolean") {
    if (typeof key === "string" && key.length <= MAX_CODE) return { key, down };
    return isWhole(button, 0, MAX_BUTTON) ? { button, down } : null;
  }
  if (isWhole(output, 0, outputs - 1)) {
    if (isPart(x) && isPart(y)) return { output, x, y };
    const fits = isWhole(width, 1, MAX_SIDE) && isWhole(height, 1, MAX_SIDE);
    return fits ? { output, width, height } : null;
  }
  if (isWhole(up, -MAX_NOTCHES, MAX_NOTCHES) && isWhole(right, -MAX_NOTCHES, MAX_NOTCHES)) {
    return { up, right };
  }
  return null;
}
