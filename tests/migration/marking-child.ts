/** A back-end of dirty-log.test.ts: writes to every other page, each time when the last mark was seen. */
import { DirtyLog } from "../../core/dirty-log.ts";
import { Mapping, O_RDWR, openFile } from "../../ffi/mod.ts";
import { PAGES, shared } from "./marking-data.ts";

const { LOG, DATA, WHICH, LAPS } = process.env;
const log = new DirtyLog();
log.replace(openFile(LOG!, O_RDWR), 0, PAGES / 8);
const { written, seen, begun, ended } = shared(new Mapping(openFile(DATA!, O_RDWR), 4096));

/** Ends the process when a mark is not seen. */
function wait(page: number, count: number): void {
  const limit = performance.now() + 20_000;
  while (Atomics.load(seen, page) !== count) {
    if (performance.now() < limit) continue;
    console.error(`Mark ${count} of page ${page} is lost`);
    Atomics.add(ended, 0, 1);
    process.exit(1);
  }
}

// Both together, for a race.
Atomics.add(begun, 0, 1);
while (Atomics.load(begun, 0) < 2);
for (let lap = 0; lap < Number(LAPS); lap++) {
  for (let page = Number(WHICH); page < PAGES; page += 2) {
    wait(page, lap);
    Atomics.store(written, page, lap + 1);
    log.mark(page * 4096, 4096);
  }
}
Atomics.add(ended, 0, 1);
process.exit(0);
