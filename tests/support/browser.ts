/** A real browser, without a window. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { skipWithout } from "./requirements.ts";

const PROGRAM = "chromium";

/** The value of a test's `skip` option. */
export const noBrowser: string | false = skipWithout(PROGRAM, "install Debian's chromium");

/** Starts it. Close it at the end. */
export async function openBrowser(): Promise<Browser> {
  const { chromium } = await import("playwright-core");
  const places = process.env.PATH!.split(":").map((folder) => join(folder, PROGRAM));
  return chromium.launch({
    executablePath: places.find((place) => existsSync(place))!,
    // Whoever runs tests in a container is root there, whom the sandbox refuses.
    args: ["--no-sandbox"],
  });
}

/** What is on an output of the page, or on its cursor: red, green, blue and alpha of each pixel. */
export async function canvasOf(page: Page, output = 0, part = "canvas:not(.cursor)") {
  const { width, height, text } = await page.evaluate((selector) => {
    const canvas = document.querySelector<HTMLCanvasElement>(selector)!;
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, width, height);
    let text = "";
    for (let at = 0; at < data.length; at += 32768) {
      text += String.fromCharCode(...data.subarray(at, at + 32768));
    }
    return { width, height, text: btoa(text) };
  }, `[data-output="${output}"] ${part}`);
  return { width, height, data: Buffer.from(text, "base64") };
}
