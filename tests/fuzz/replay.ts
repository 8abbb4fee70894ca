/**
 * Runs fuzzing by hand: a burst that found something, a kept trace, or as many bursts as you like.
 * `--help` tells how.
 */
import { parseArgs } from "node:util";
import { MessageCampaign } from "./campaign.ts";
import { rows } from "./message-maker.ts";

const usage = `Usage: bun tests/fuzz/replay.ts OPTION...
       deno run -A --no-check tests/fuzz/replay.ts OPTION...

  --messages        fuzz messages (the default)
  --seed=N          the seed that a failure printed (default 1)
  --only=BURST      one burst of it
  --first=BURST     begin with this burst
  --bursts=N        so many bursts
  --count=N         so many messages
  --seconds=N       for so long (default 10, when nothing else ends it)`;

const { values } = parseArgs({
  options: {
    messages: { type: "boolean", default: true },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
    first: { type: "string" },
    bursts: { type: "string" },
    count: { type: "string" },
    seconds: { type: "string" },
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
  return { first: number(values.first), bursts, messages: count, milliseconds };
}

function runMessageCampaign(): void {
  using campaign = new MessageCampaign({ seed: Number(values.seed), ...limits() });
  try {
    campaign.run();
  } finally {
    const { tally } = campaign;
    console.log(`${tally.table()}\n${tally}, ${campaign.bursts} bursts`);
    const missing = tally.missing(rows, (row) => campaign.implements(row));
    if (missing.length > 0) console.log(`never seen: ${missing.join(", ")}`);
  }
}

function main(): void {
  if (values.help) return console.log(usage);
  const start = performance.now();
  try {
    runMessageCampaign();
  } catch (error) {
    const { message, cause } = error as Error;
    console.error(`\nFOUND: ${message}`);
    if (cause instanceof Error && cause.name !== "Finding") console.error(cause.stack);
    process.exitCode = 1;
  }
  console.log(`${((performance.now() - start) / 1000).toFixed(1)} s`);
}

main();
