/** The kinds of rings that a check can be made for. */
import { mask, RingFeature } from "../../core/features.ts";
import type { Lane, LaneOptions } from "./lane.ts";
import type { GuestOptions, Play } from "./play.ts";

/** A kind of ring, and the features that choose it besides those of every guest. */
export interface RingKind {
  readonly name: "split" | "packed";
  readonly needs: readonly number[];
}

export const split: RingKind = { name: "split", needs: [] };
export const packed: RingKind = { name: "packed", needs: [RingFeature.RING_PACKED] };

export const ringKinds: readonly RingKind[] = [split, packed];

export interface KindOptions extends GuestOptions, LaneOptions {
  /** Ring features that are not accepted. */
  readonly without?: readonly number[];
}

/** The features of a guest with rings of a kind. */
export function featuresOf(play: Play, kind: RingKind, without: readonly number[] = []): bigint {
  return play.wantedFeatures(...without) | mask(...kind.needs);
}

/** Starts a guest with rings of a kind. Ends the check as n/a where there are none. */
export function startKind(play: Play, kind: RingKind, options: KindOptions = {}): Lane {
  const { without = [], ...others } = options;
  play.needsFeature(...kind.needs);
  return play.running({ features: featuresOf(play, kind, without), ...others });
}
