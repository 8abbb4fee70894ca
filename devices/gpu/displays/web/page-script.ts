/**
 * What runs in the browser. These functions are sent as their own text, so they may use each other, what
 * they are given, and nothing else of this file or any other.
 */

/** What the page has to know of the server's messages (wire.ts). */
export interface PageSettings {
  readonly header: { readonly size: number; readonly numbers: number };
  readonly message: Readonly<Record<"HELLO" | "SIZE" | "PIXELS" | "CURSOR", number>>;
  /** Pixels of the side of a cursor. */
  readonly cursorSide: number;
  /** Bytes of a pixel. */
  readonly pixel: number;
}

/** Sends a message (`PageMessage`), if there is a connection. */
type Send = (message: object) => void;

/** An output on the page. */
interface PageScreen {
  readonly element: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  readonly cursor: HTMLCanvasElement;
}

/** A message of the server, taken apart. */
interface Told {
  readonly type: number;
  readonly output: number;
  readonly numbers: Int32Array;
  /** 0xAARRGGBB each. */
  readonly pixels: Uint32Array;
}

/** Starts the page. */
function start(settings: PageSettings): void {
  const state = document.getElementById("state")!;
  const screens = new Map<number, PageScreen>();
  let socket: WebSocket | null = null;
  let controls = false;
  const send: Send = (message) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  const say = (): void => {
    const sizes = [...screens.values()]
      .filter(({ element }) => !element.hidden)
      .map(({ canvas }) => `${canvas.width} × ${canvas.height}`);
    const what = sizes.length > 0 ? sizes.join(", ") : "the guest shows nothing yet";
    state.textContent = `${what}${controls ? "" : " (to look at only)"}`;
  };
  const show = (told: Told): void => {
    if (told.type === settings.message.HELLO) {
      controls = told.numbers[0] === 1;
      document.getElementById("fit")!.hidden = told.numbers[1] !== 1;
    } else {
      const { output } = told;
      const screen = screens.get(output) ?? addScreen(output, settings, send, () => controls);
      screens.set(output, screen);
      showOn(screen, told, settings);
    }
    if (told.type < settings.message.PIXELS) say();
  };
  const connect = (): void => {
    socket = new WebSocket(`${location.href.replace(/^http/, "ws").replace(/[?#].*/, "")}screen`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => state.classList.add("live");
    socket.onmessage = ({ data }) => {
      show(takeApart(data, settings));
      send({ seen: true });
    };
    socket.onclose = () => {
      state.classList.remove("live");
      state.textContent = "Not connected, trying again";
      setTimeout(connect, 1000);
    };
  };
  sendKeys(send, () => controls);
  sendSize(send);
  connect();
}

function takeApart(data: ArrayBuffer, { header }: PageSettings): Told {
  const [type, output] = new Uint32Array(data, 0, 2);
  return {
    type: type!,
    output: output!,
    numbers: new Int32Array(data, header.numbers, (header.size - header.numbers) / 4),
    pixels: new Uint32Array(data, header.size),
  };
}

/** Puts an output on the page, in the order of their numbers. */
function addScreen(
  output: number,
  { cursorSide }: PageSettings,
  send: Send,
  controls: () => boolean,
): PageScreen {
  const element = document.createElement("div");
  const canvas = document.createElement("canvas");
  const cursor = document.createElement("canvas");
  element.className = "screen";
  element.style.order = String(output);
  element.dataset["output"] = String(output);
  element.tabIndex = 0;
  element.hidden = true;
  cursor.className = "cursor";
  cursor.width = cursor.height = cursorSide;
  cursor.hidden = true;
  element.append(canvas, cursor);
  document.getElementById("screens")!.append(element);
  sendPointer(element, canvas, output, send, controls);
  return { element, canvas, cursor };
}

/** Carries out a message. */
function showOn(screen: PageScreen, told: Told, { message, cursorSide }: PageSettings): void {
  const { element, canvas, cursor } = screen;
  const [a, b, c, d, e] = told.numbers as unknown as [number, number, number, number, number];
  if (told.type === message.SIZE) {
    canvas.width = a;
    canvas.height = b;
    element.hidden = a === 0;
  } else if (told.type === message.PIXELS) {
    paint(canvas, a, b, c, d, told.pixels, 0xff000000);
  } else if (told.type === message.CURSOR) {
    if (told.pixels.length > 0) paint(cursor, 0, 0, cursorSide, cursorSide, told.pixels, 0);
    cursor.hidden = e === 0;
    element.classList.toggle("pointed", e !== 0);
    // In parts of the canvas, which may be shown smaller than it is.
    cursor.style.left = `${(100 * (a - c)) / canvas.width}%`;
    cursor.style.top = `${(100 * (b - d)) / canvas.height}%`;
    cursor.style.width = `${(100 * cursorSide) / canvas.width}%`;
  }
}

/** Paints pixels, with the bits of `opaque` set: 0xff000000 where alpha means nothing. */
function paint(
  canvas: HTMLCanvasElement,
  x: number,
  y: number,
  width: number,
  height: number,
  pixels: Uint32Array,
  opaque: number,
): void {
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) {
    const v = pixels[i]!;
    words[i] = opaque | (v & 0xff00ff00) | ((v & 0xff) << 16) | ((v >>> 16) & 0xff);
  }
  context.putImageData(image, x, y);
}

/** Sends what is pressed while the page has the keyboard, and releases it when the page loses it. */
function sendKeys(send: Send, controls: () => boolean): void {
  const held = new Set<string>();
  const tell = (event: KeyboardEvent, down: boolean): void => {
    if (!controls() || event.code === "" || event.isComposing) return;
    event.preventDefault();
    // The guest repeats keys by itself.
    if (event.repeat) return;
    if (down) held.add(event.code);
    else held.delete(event.code);
    send({ key: event.code, down });
  };
  addEventListener("keydown", (event) => tell(event, true));
  addEventListener("keyup", (event) => tell(event, false));
  addEventListener("blur", () => {
    for (const key of held) send({ key, down: false });
    held.clear();
  });
}

/** Proposes the room that the window has as the size of the first output. */
function sendSize(send: Send): void {
  const button = document.getElementById("fit")!;
  button.addEventListener("click", () => {
    const screens = document.getElementById("screens")!;
    const { paddingLeft, paddingTop } = getComputedStyle(screens);
    const padding = 2 * Number.parseFloat(paddingLeft);
    const width = document.documentElement.clientWidth - padding;
    const top = screens.getBoundingClientRect().top + scrollY;
    const height = document.documentElement.clientHeight - top - 2 * Number.parseFloat(paddingTop);
    // Timings of monitors come in multiples of 8 pixels.
    send({ output: 0, width: Math.max(8, width & ~7), height: Math.max(8, Math.floor(height)) });
    button.blur();
  });
}

/** Sends where the pointer is on an output, its buttons and its wheel. */
function sendPointer(
  element: HTMLElement,
  canvas: HTMLCanvasElement,
  output: number,
  send: Send,
  controls: () => boolean,
): void {
  let place: { x: number; y: number } | null = null;
  const part = (at: number, from: number, length: number) =>
    Math.min(1, Math.max(0, (at - from) / length));
  const tellPlace = (): void => {
    if (place !== null) send({ output, ...place });
    place = null;
  };
  const move = (event: PointerEvent): void => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    // The guest gets as many places as the browser shows pictures.
    if (place === null) requestAnimationFrame(tellPlace);
    place = { x: part(event.clientX, left, width), y: part(event.clientY, top, height) };
  };
  const press = (event: PointerEvent, down: boolean): void => {
    if (!controls()) return;
    event.preventDefault();
    if (down) {
      element.focus();
      element.setPointerCapture(event.pointerId);
    }
    move(event);
    tellPlace();
    if (event.button >= 0) send({ button: event.button, down });
  };
  element.addEventListener("pointerdown", (event) => press(event, true));
  element.addEventListener("pointerup", (event) => press(event, false));
  element.addEventListener("pointermove", (event) => {
    if (!controls()) return;
    // A second button of a mouse comes as a movement.
    if (event.button >= 0) press(event, (event.buttons & buttonBit(event.button)) !== 0);
    else move(event);
  });
  element.addEventListener("contextmenu", (event) => {
    if (controls()) event.preventDefault();
  });
  sendWheel(element, send, controls);
}

/** The bit of `PointerEvent.buttons` that a `button` has: middle and right have changed places. */
function buttonBit(button: number): number {
  return [1, 4, 2, 8, 16][button] ?? 0;
}

/** Sends whole notches of the wheel: what a touchpad gives is less than one at a time. */
function sendWheel(element: HTMLElement, send: Send, controls: () => boolean): void {
  /** Of one notch, in pixels, lines and pages. */
  const units = [100, 3, 1];
  let [up, right] = [0, 0];
  const wheel = (event: WheelEvent): void => {
    if (!controls()) return;
    event.preventDefault();
    const unit = units[event.deltaMode] ?? 1;
    up -= event.deltaY / unit;
    right += event.deltaX / unit;
    const notches = { up: Math.trunc(up), right: Math.trunc(right) };
    if (notches.up === 0 && notches.right === 0) return;
    up -= notches.up;
    right -= notches.right;
    send(notches);
  };
  element.addEventListener("wheel", wheel, { passive: false });
}

/** The first one starts the page. */
export const pageFunctions: readonly ((...given: any[]) => unknown)[] = [
  start,
  takeApart,
  addScreen,
  showOn,
  paint,
  sendKeys,
  sendSize,
  sendPointer,
  buttonBit,
  sendWheel,
];
