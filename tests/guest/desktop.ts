/** The page of `ringside desktop` in a browser, beside the guest that it belongs to. */
import type { Page } from "playwright-core";
import { canvasOf, openBrowser } from "../support/browser.ts";
import type { BackEnd } from "./back-end.ts";
import { until } from "./wait.ts";

/** A browser that shows the page of a desktop. */
export interface Onlooker {
  readonly page: Page;
  /** Waits until the page shows these pixels, B8G8R8X8 with X of 0. */
  shows(pixels: Buffer): Promise<void>;
  log(): string;
  stop(): Promise<void>;
}

export async function openPage(backEnd: BackEnd): Promise<Onlooker> {
  const url = /http:\/\/\S+/.exec(backEnd.log())![0];
  const browser = await openBrowser();
  const page = await browser.newPage({ viewport: { width: 1320, height: 870 } });
  await page.goto(url);
  await page.locator("[data-output='0']").waitFor();
  const same = async (pixels: Buffer) => {
    const { data } = await canvasOf(page);
    for (let i = 0; i < data.length; i += 4) {
      [data[i], data[i + 2], data[i + 3]] = [data[i + 2]!, data[i]!, 0];
    }
    return data.equals(pixels) ? true : null;
  };
  return {
    page,
    shows: async (pixels) => {
      await until(20_000, () => same(pixels), "the page to show what the guest drew");
    },
    log: () => "",
    stop: () => browser.close(),
  };
}
