/** The page of `ringside desktop` in Chromium: what it shows, and what it passes on. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { decode } from "fast-png";
import type { Browser, Page } from "playwright-core";
import { Abs, Button, EventType, Rel } from "../../devices/input/mod.ts";
import { GpuDriver, GpuFormat, InputDriver } from "../../frontend/mod.ts";
import { canvasOf, noBrowser, openBrowser } from "../support/browser.ts";
import { Folder } from "../support/folder.ts";
import type { Triple } from "../support/input.ts";
import { launcher, Program } from "../support/program.ts";
import { PIXEL, picture, Surface } from "./screen.ts";
import { eventually, gets, urlOf } from "./viewer.ts";

const { SYN, KEY, REL, ABS } = EventType;
const sync: Triple = [SYN, 0, 0];

/** Red, green, blue and alpha of a picture; `alpha` is that of all of it if given. */
function colours(bytes: Uint8Array, alpha?: number): Buffer {
  const result = Buffer.from(bytes);
  for (let i = 0; i < bytes.length; i += PIXEL) {
    result[i] = bytes[i + 2]!;
    result[i + 2] = bytes[i]!;
    if (alpha !== undefined) result[i + 3] = alpha;
  }
  return result;
}

/** Red, green, blue and alpha of a PNG file. */
function loaded(path: string): Buffer {
  const { width, height, data } = decode(readFileSync(path));
  const result = Buffer.alloc(width * height * PIXEL, 255);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) result[4 * i + c] = data[3 * i + c]!;
  }
  return result;
}

describe("the page in a browser", { skip: noBrowser }, () => {
  let folder: Folder;
  let program: Program;
  let browser: Browser;
  let page: Page;
  let gpu: GpuDriver;
  let surface: Surface;
  before(async () => {
    folder = new Folder();
    const screenshot = `--screenshot=${folder.at("screen.png")}`;
    const command = [launcher("ringside"), "desktop", `--sockets=${folder.path}`, screenshot];
    program = new Program(command, { folder, socket: folder.at("tablet.sock") });
    browser = await openBrowser();
    page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
    page.on("pageerror", (error) => assert.fail(error));
    await page.goto(urlOf(program));
    gpu = GpuDriver.connect(folder.at("gpu.sock"));
    surface = new Surface(gpu, 1, 640, 480);
    surface.paint(picture(640, 480));
    surface.show();
    surface.setScanout();
  });
  after(async () => {
    await browser?.close();
    gpu?.[Symbol.dispose]();
    program?.[Symbol.dispose]();
    folder?.[Symbol.dispose]();
  });

  /** Waits until a canvas of the page has these pixels. */
  async function shows(wanted: Buffer, output = 0, part?: string): Promise<void> {
    const end = performance.now() + 10_000;
    await page.locator(`[data-output="${output}"]`).waitFor();
    for (;;) {
      const { data } = await canvasOf(page, output, part);
      if (data.equals(wanted)) return;
      assert.ok(performance.now() < end, `output ${output} does not show the right picture`);
    }
  }

  it("shows the same as the screenshot, pixel by pixel", async () => {
    await shows(colours(picture(640, 480), 255));
    // Under Bun both signals do; under Deno the first one opens its debugger besides.
    program.signal("SIGUSR2");
    await eventually(() => existsSync(folder.at("screen.png")), "the screenshot");
    assert.ok(loaded(folder.at("screen.png")).equals(colours(picture(640, 480), 255)));
    assert.equal(await page.locator("#state").textContent(), "640 × 480");
  });

  it("follows what is flushed", async () => {
    const mixed = picture(640, 480);
    surface.paint(picture(640, 480, 1));
    surface.show({ x: 100, y: 50, width: 200, height: 2 });
    for (let row = 50; row < 52; row++) {
      const at = (row * 640 + 100) * PIXEL;
      mixed.set(picture(640, 480, 1).subarray(at, at + 200 * PIXEL), at);
    }
    await shows(colours(mixed, 255));
    surface.show();
    await shows(colours(picture(640, 480, 1), 255));
  });

  it("shows a second output, and the cursor where it is", async () => {
    const other = new Surface(gpu, 2, 320, 200);
    other.paint(picture(320, 200, 2));
    other.show();
    other.setScanout(1);
    await shows(colours(picture(320, 200, 2), 255), 1);
    const image = new Surface(gpu, 3, 64, 64, GpuFormat.B8G8R8A8);
    const drawing = new Uint8Array(64 * 64 * PIXEL);
    // Browsers keep colours multiplied by alpha: of what is half there they lose bits.
    for (let i = 0; i < 64 * 32; i++) drawing.set([i & 255, i >> 3, 7, 255], i * PIXEL);
    image.paint(drawing);
    image.show();
    gpu.updateCursor(0, 3, 200, 100, 8, 16);
    await shows(colours(drawing), 0, "canvas.cursor");
    const place = await page.evaluate(() => {
      const box = (selector: string) =>
        document.querySelector(`[data-output="0"] ${selector}`)!.getBoundingClientRect();
      const [screen, cursor] = [box("canvas:not(.cursor)"), box("canvas.cursor")];
      return [cursor.x - screen.x, cursor.y - screen.y, cursor.width, cursor.height];
    });
    assert.deepEqual(place.map(Math.round), [192, 84, 64, 64]);
    gpu.moveCursor(0, 0, 0, 0);
    await page.locator('[data-output="0"] canvas.cursor').waitFor({ state: "hidden" });
    surface.setScanout(1);
    gpu.setScanout(1, 0, surface.rect);
    await page.locator('[data-output="1"]').waitFor({ state: "hidden" });
  });

  it("passes on keys, and lets go of them when it loses the keyboard", async () => {
    using keyboard = InputDriver.connect(folder.at("keyboard.sock"));
    await page.keyboard.press("KeyA");
    await gets(keyboard, [[KEY, 30, 1], sync, [KEY, 30, 0], sync]);
    await page.keyboard.press("Control+Alt+Delete");
    const [ctrl, alt, del] = [29, 56, 111];
    await gets(
      keyboard,
      [
        [ctrl, 1],
        [alt, 1],
        [del, 1],
        [del, 0],
        [alt, 0],
        [ctrl, 0],
      ].flatMap(([code, value]): Triple[] => [[KEY, code!, value!], sync]),
    );
    await page.keyboard.down("Tab");
    await gets(keyboard, [[KEY, 15, 1], sync]);
    await page.evaluate(() => dispatchEvent(new Event("blur")));
    await gets(keyboard, [[KEY, 15, 0], sync]);
    await page.keyboard.up("Tab");
  });

  it("passes on the pointer, its buttons and its wheel", async () => {
    using tablet = InputDriver.connect(folder.at("tablet.sock"));
    const box = (await page.locator('[data-output="0"] canvas:not(.cursor)').boundingBox())!;
    await page.mouse.move(box.x + 320, box.y + 120);
    const at: Triple[] = [[ABS, Abs.X, 16384], [ABS, Abs.Y, 8192], sync];
    await gets(tablet, at);
    await page.mouse.click(box.x + 320, box.y + 120, { button: "right" });
    await gets(tablet, [...at, [KEY, Button.RIGHT, 1], sync, ...at, [KEY, Button.RIGHT, 0], sync]);
    await page.mouse.wheel(0, 300);
    await gets(tablet, [[REL, Rel.WHEEL, -3], sync]);
  });

  it("has a button that proposes the room there is as a size", async () => {
    await page.getByRole("button").click();
    const words = () => {
      const { bytes } = gpu.displayInfo();
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return [view.getUint32(32, true), view.getUint32(36, true)];
    };
    await eventually(() => words()[0] !== 1280, "another size");
    const [width, height] = words() as [number, number];
    const fitting = new Surface(gpu, 9, width, height);
    fitting.setScanout();
    fitting.paint(picture(width, height, 4));
    fitting.show();
    await shows(colours(picture(width, height, 4), 255));
    const [scrollWidth, scrollHeight, boxWidth] = await page.evaluate(() => {
      const { scrollWidth, scrollHeight } = document.documentElement;
      const box = document.querySelector(".screen")!.getBoundingClientRect();
      return [scrollWidth, scrollHeight, box.width];
    });
    assert.ok(width > 1350 && height > 900, `${width} by ${height}`);
    assert.deepEqual([scrollWidth, scrollHeight, boxWidth], [1400, 1000, width]);
  });

  it("says so when the program is gone", async () => {
    assert.ok(program.stop());
    await page.getByText("Not connected").waitFor();
  });
});
