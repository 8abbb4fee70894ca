/** A loop that runs beside the tests of a suite. */
import { after, before } from "node:test";
import { Loop } from "../../core/loop.ts";

export function useLoop(): { readonly current: Loop } {
  let loop: Loop;
  let running: Promise<void>;
  before(() => {
    loop = new Loop();
    loop.useEvents();
    running = loop.run();
  });
  after(async () => {
    loop.stop();
    await running;
    loop[Symbol.dispose]();
  });
  return {
    get current() {
      return loop;
    },
  };
}
