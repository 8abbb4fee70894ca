/** Runs in a Worker: waits for the end of a front-end that owes pages. See postcopy-watch.ts. */
import { workerData } from "node:worker_threads";
import { endAwaitingPages, Fd, hungUp, readable } from "../ffi/mod.ts";
import { type PostcopyWork, WatchCell } from "./postcopy-cells.ts";

/** Milliseconds between looks at the list, to which the main thread may add once more. */
const AGAIN = 20;

const { cells, ranges, socket, stop, ...work } = workerData as PostcopyWork;
/** Not ours: it is never closed here. */
const userfault = new Fd(work.userfault);

function say(cell: number): void {
  Atomics.store(cells, cell, 1);
  Atomics.notify(cells, cell);
}

say(WatchCell.WATCHING);
if (hungUp(socket, stop)) {
  // First: whoever sees a page of zeros must also see this.
  say(WatchCell.LOST);
  do {
    const count = Atomics.load(cells, WatchCell.RANGES);
    for (let i = 0; i < count; i++) {
      endAwaitingPages(userfault, ranges[2 * i]!, ranges[2 * i + 1]!);
    }
  } while (!readable(stop, AGAIN));
}
say(WatchCell.ENDED);
