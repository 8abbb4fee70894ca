/** Streams of messages, mostly right, against live back-ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { allRows, MessageCampaign } from "./message-campaign.ts";
import { full, seed } from "./settings.ts";

const limits = full ? { amount: 1_000_000 } : { milliseconds: 7000 };
const ACCEPTED_SHARE = 0.3;
const EXTRA_SLICES = 4;

/** Rows that are implemented and were not accepted. */
function never(campaign: MessageCampaign): string[] {
  const served = allRows.filter((row) => campaign.implements(row));
  return served.map(({ name }) => name).filter((name) => campaign.tally.acceptedOf(name) === 0);
}

test("back-ends survive streams of messages, and explain what they refuse", () => {
  console.log(`messages: RINGSIDE_SEED=${seed}`);
  using campaign = new MessageCampaign({ seed, ...limits });
  campaign.run();
  // A slow machine gets less far in the same time.
  for (let i = 0; i < EXTRA_SLICES && never(campaign).length > 0; i++) campaign.run();
  const { tally } = campaign;
  console.log(`${tally.table()}\nmessages: ${campaign}, ${campaign.bursts} bursts`);
  assert.ok(tally.share >= ACCEPTED_SHARE, `${tally}`);
  assert.deepEqual(never(campaign), [], "every row that a back-end implements was accepted");
  // A slice is too short for what is rare.
  const missing = tally.missing(allRows, (row) => campaign.implements(row));
  if (full) assert.deepEqual(missing, [], "every row was answered in all ways that it can be");
});
