/** The program as a process. */
import type { Check } from "../check.ts";
import { fail } from "../check.ts";

const CONVENTIONS = "vhost-user: Backend program conventions";

export const processes: readonly Check[] = [
  {
    id: "process.idle",
    title: "The program uses no processor time while nobody is connected",
    source: CONVENTIONS,
    run(play) {
      play.needsProcess();
      if (!play.target.oneShot) play.expectAlive();
      expectIdle(play.target.cpuTime.bind(play.target), () => play.pause(500));
    },
  },
  {
    id: "process.idle-session",
    title: "The program uses no processor time while its rings are empty",
    source: "virtio 1.3 2.7.10",
    run(play) {
      play.needsProcess();
      play.running().run(20);
      expectIdle(play.target.cpuTime.bind(play.target), () => play.pause(500));
    },
  },
  {
    id: "process.sigterm",
    title: "SIGTERM ends the program, with a session open and rings running as well",
    source: CONVENTIONS,
    run(play) {
      play.needsProcess();
      const lane = play.running();
      lane.run(4);
      const ended = play.target.stop();
      if (!play.target.oneShot) play.target.start();
      if (!ended) fail("the end within 3 s", "the program goes on");
    },
  },
];

/** Fails when the time used in each of a few spans is more than a tenth of it. */
function expectIdle(cpuTime: () => number, pause: () => void): void {
  let least = Infinity;
  for (let i = 0; i < 4 && least > 50; i++) {
    const before = cpuTime();
    pause();
    least = Math.min(least, cpuTime() - before);
  }
  if (least > 50) fail("at most 50 ms of processor time in 500 ms", `${least} ms`);
}
