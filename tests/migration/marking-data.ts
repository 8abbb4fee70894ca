/** What the processes of dirty-log.test.ts share besides the log. */
import type { Mapping } from "../../ffi/mod.ts";

export const PAGES = 64;

export function shared(mapping: Mapping) {
  const words = (at: number, count: number) =>
    new Int32Array(mapping.windows[0]!.u8.buffer, at * 4, count);
  return {
    /** How often each page was written, and how often as its reader knows. */
    written: words(0, PAGES),
    seen: words(PAGES, PAGES),
    /** Writers that have begun, and that have ended. */
    begun: words(2 * PAGES, 1),
    ended: words(2 * PAGES + 1, 1),
  };
}
