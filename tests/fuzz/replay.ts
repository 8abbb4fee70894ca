/**
 * Runs fuzzing by hand: a burst that found something, a kept trace, or as many bursts as you like.
 * `--help` tells how.
 */
import { parseArgs } from "node:util";
import type { Campaign } from "./campaign.ts";
import { Finding } from "./finding.ts";
import { allRows, MessageCampaign } from "./message-campaign.ts";
import { minimize, playTrace } from "./playback.ts";
import { RingCampaign } from "./ring-campaign.ts";
import { describeBatches, loadTrace, saveTrace } from "./trace.ts";

const usage = `Usage: bun tests/fuzz/replay.ts OPTION...
       deno run -A --no-check tests/fuzz/replay.ts OPTION...

  --messages        fuzz messages (the default)
  --rings           fuzz the contents of rings
  --seed=N          the seed that a failure printed (default 1)
  --only=BURST      one burst of it
  --first=BURST     begin with this burst
  --bursts=N        so many bursts
  --count=N         so many messages or descriptors
  --seconds=N       for so long (default 10, when nothing else ends it)
  --trace=FILE      send exactly the messages that a failure kept
  --minimize        and find out which of them are enough`;

const { values } = parseArgs({
  options: {
    messages: { type: "boolean" },
    rings: { type: "boolean", default: false },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
    first: { type: "string" },
    bursts: { type: "string" },
    count: { type: "string" },
    seconds: { type: "string" },
    trace: { type: "string" },
    minimize: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));

function limits() {
  if (values.only !== undefined) return { first: Number(values.only), bursts: 1 };
  const bursts = number(values.bursts);
  const count = number(values.count);
  const endless = bursts === undefined && count === undefined;
  const seconds = number(values.seconds) ?? (endless ? 10 : undefined);
  const milliseconds = seconds === undefined ? undefined : seconds * 1000;
  return { first: number(values.first), bursts, amount: count, milliseconds };
}

function run(campaign: Campaign, report: () => void): void {
  try {
    campaign.run();
  } finally {
    report();
    console.log(`${campaign}, ${campaign.bursts} bursts`);
  }
}

function runMessages(): void {
  using campaign = new MessageCampaign({ seed: Number(values.seed), ...limits() });
  run(campaign, () => {
    console.log(campaign.tally.table());
    const missing = campaign.tally.missing(allRows, (row) => campaign.implements(row));
    if (missing.length > 0) console.log(`never seen: ${missing.join(", ")}`);
  });
}

function runRings(): void {
  using campaign = new RingCampaign({ seed: Number(values.seed), ...limits() });
  run(campaign, () => {});
}

function runTrace(path: string): void {
  const file = loadTrace(path);
  if (!values.minimize) {
    const found = playTrace(file);
    if (found !== null) throw new Finding(found);
    return console.log("nothing found");
  }
  const shortest = minimize(file, (text) => console.log(text));
  const kept = `${path}.min`;
  saveTrace(kept, shortest);
  console.log(`enough, and kept in ${kept}:\n${describeBatches(shortest.batches)}`);
}

function main(): void {
  if (values.help) return console.log(usage);
  const start = performance.now();
  try {
    if (values.trace !== undefined) runTrace(values.trace);
    else if (values.rings) runRings();
    else runMessages();
  } catch (error) {
    const { message, cause } = error as Error;
    console.error(`\nFOUND: ${message}`);
    if (cause instanceof Error && cause.name !== "Finding") console.error(cause.stack);
    process.exitCode = 1;
  }
  console.log(`${((performance.now() - start) / 1000).toFixed(1)} s`);
}

main();
