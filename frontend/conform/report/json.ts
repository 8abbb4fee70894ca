/** Results for programs. */
import { bitsOf } from "../../../core/features.ts";
import { type Outcome, outcomes, type Result } from "../check.ts";
import type { DeviceKind } from "../exercises.ts";
import type { Offer } from "../play.ts";

/** What was tested. */
export interface Subject {
  readonly device: DeviceKind | null;
  readonly offer: Offer;
}

/** One object: what the back-end offers, by bit numbers, how often each outcome came, all results. */
export function jsonReport({ device, offer }: Subject, results: readonly Result[]): string {
  const count = (wanted: Outcome) => results.filter(({ outcome }) => outcome === wanted).length;
  const report = {
    device,
    features: bitsOf(offer.features),
    protocolFeatures: bitsOf(offer.protocol),
    queues: offer.queues,
    ...(offer.specs === null ? {} : { specs: offer.specs }),
    counts: Object.fromEntries(outcomes.map((outcome) => [outcome, count(outcome)])),
    results,
  };
  return JSON.stringify(report, null, 2);
}
