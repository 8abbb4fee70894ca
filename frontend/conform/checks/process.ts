/** The program as a process. */
import { type Check, fail } from "../check.ts";

export const processes: readonly Check[] = [
  {
    id: "process.sigterm",
    title: "SIGTERM ends the program, with a session open and rings running as well",
    source: "vhost-user: Backend program conventions",
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
