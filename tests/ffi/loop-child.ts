/** The process of signal.timing.test.ts: blocks in the event loop until SIGTERM. */
import { Loop } from "../../core/loop.ts";
import { createEventFd, EPOLLIN, signal } from "../../ffi/mod.ts";

const loop = new Loop();
using event = createEventFd();
let rounds = 0;
loop.watch(event.number, EPOLLIN, () => {
  rounds++;
  // Never taken off, so that the next round follows at once.
  if (process.env.SATURATED) signal(event.number);
});
if (process.env.SATURATED) signal(event.number);
process.on("SIGTERM", () => {
  console.log(`handled ${Date.now()} after ${rounds} rounds`);
  loop.stop();
});
console.log("ready");
await loop.run();
process.exit(0);
