/** A check of a ring that its driver filled wrongly: nothing crashes, hangs or ends for others. */
import { RingFeature } from "../../core/features.ts";
import { BackEndError } from "../errors.ts";
import type { Check } from "./check.ts";
import type { Lane } from "./lane.ts";
import type { Play } from "./play.ts";
import { packed, type RingKind, startKind } from "./ring-kinds.ts";
import { M } from "./wire.ts";

/** Descriptors in a ring that is filled wrongly. */
export const SIZE = 64;

export interface Hostile {
  readonly name: string;
  readonly title: string;
  /** Where the rule stands for split and for packed rings. */
  readonly source: readonly [split: string, packed: string];
  /** The only kind of ring that it is about. */
  readonly only?: RingKind;
  readonly indirect?: boolean;
  /** Fills the ring. `at` is a page of guest memory to use. */
  fill(lane: Lane, at: number): void;
}

/** What the ids of a kind of ring end with. */
export const suffixOf = (kind: RingKind): string => (kind === packed ? "-packed" : "");

/** Words for titles that both kinds have. */
export const onRing = (kind: RingKind): string => (kind === packed ? " (packed)" : "");

/** Shows what was put into the ring and waits for the back-end to deal with it. */
export function provoke(play: Play, kind: RingKind, row: Hostile): Lane {
  play.needsFeature(...(row.indirect === true ? [RingFeature.INDIRECT_DESC] : []));
  const lane = startKind(play, kind, { ringSize: SIZE });
  lane.run(2);
  row.fill(lane, lane.frontend.memory.allocate(4096, 4096));
  lane.forceKick();
  play.pause(10);
  return lane;
}

/** Fails unless the back-end still answers on the connection, or has ended it. */
export function expectAnswer(lane: Lane): void {
  try {
    lane.connection.request(M.GET_FEATURES);
  } catch (error) {
    if (!(error instanceof BackEndError) || error.fault !== "closed") throw error;
  }
}

export function hostileCheck(row: Hostile, kind: RingKind): Check {
  const { name, title, source } = row;
  return {
    id: `hostile.${name}${suffixOf(kind)}`,
    title: `${title}: the program goes on and serves the next session${onRing(kind)}`,
    source: source[kind === packed ? 1 : 0],
    run(play) {
      expectAnswer(provoke(play, kind, row));
      play.expectAlive();
    },
  };
}
