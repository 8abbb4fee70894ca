/** Requests that were in flight when a session or a program ended: each is completed once. */
import { type Check, expectEqual, notOffered } from "../check.ts";
import { type Area, expectNoneMarked, give, marked, tracked } from "../inflight-region.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { type RingKind, ringKinds } from "../ring-kinds.ts";

const SOURCE = "vhost-user: Inflight I/O tracking";

interface Guest {
  readonly lane: Lane;
  readonly area: Area;
}

/**
 * Waits until the device has taken requests and keeps them. Returns how many; 0 when it completes all
 * at once. Two looks tell, because any device has requests in flight for moments.
 */
function awaitTaken(play: Play, { lane, area }: Guest): number {
  const { ring } = lane.vring;
  const goal = ring.availableIndex;
  let before = 0;
  for (let waited = 0; waited < 60 && ring.shownUsedIndex !== goal; waited++) {
    play.pause(1);
    const now = marked(area, lane).length;
    if (before > 0 && now > 0) return now;
    before = now;
  }
  return 0;
}

/**
 * Makes requests available and ends the session while they are in flight; the next one goes on with them.
 * Returns how many were in flight.
 */
function interrupt(play: Play, { lane, area }: Guest, end: () => void): number {
  for (let i = 0; i < 20; i++) lane.submit();
  lane.publish();
  const taken = awaitTaken(play, { lane, area });
  end();
  play.goOn(lane, (frontend) => give(area, frontend));
  lane.finish();
  return taken;
}

/** Fails unless everything is completed, and nothing twice. */
function expectSettled(play: Play, { lane, area }: Guest): void {
  const { ring } = lane.vring;
  play.pause();
  expectEqual("a used index of", ring.shownUsedIndex, ring.usedIndex);
  lane.run(8);
  lane.stop();
  expectNoneMarked(area, lane);
}

function bind(kind: RingKind): readonly Check[] {
  const { name } = kind;
  return [
    {
      id: `inflight.dropped-${name}`,
      title: `What is in flight when the connection ends is completed once (${name})`,
      source: SOURCE,
      run(play) {
        play.needsReconnect();
        const guest = tracked(play, kind);
        guest.lane.run(4);
        let taken = 0;
        for (let round = 0; round < 12; round++) taken += interrupt(play, guest, () => {});
        expectSettled(play, guest);
        if (taken === 0) notOffered("requests in flight: all are completed at once");
      },
    },
    {
      id: `inflight.killed-${name}`,
      title: `What is in flight when the program is killed is completed once (${name})`,
      source: SOURCE,
      run(play) {
        play.needsProcess();
        play.needsReconnect();
        const guest = tracked(play, kind);
        for (let round = 0; round < 5; round++) {
          interrupt(play, guest, () => play.target.restart());
        }
        expectSettled(play, guest);
      },
    },
  ];
}

export const inflightReplay: readonly Check[] = ringKinds.flatMap(bind);
