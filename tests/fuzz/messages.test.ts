/** Streams of messages, mostly right, against live back-ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MessageCampaign } from "./message-campaign.ts";
import { rows } from "./message-maker.ts";
import { full, seed } from "./settings.ts";

const limits = full ? { amount: 1_000_000 } : { milliseconds: 14_000 };
const ACCEPTED_SHARE = 0.3;

test("back-ends survive streams of messages, and explain what they refuse", () => {
  console.log(`messages: RINGSIDE_SEED=${seed}`);
  using campaign = new MessageCampaign({ seed, ...limits });
  campaign.run();
  const { tally } = campaign;
  console.log(`${tally.table()}\nmessages: ${campaign}, ${campaign.bursts} bursts`);
  assert.ok(tally.share >= ACCEPTED_SHARE, `${tally}`);
  const served = rows.filter((row) => campaign.implements(row));
  const never = served.filter(({ name }) => tally.acceptedOf(name) === 0).map(({ name }) => name);
  assert.deepEqual(never, [], "every row that a back-end implements was accepted");
  // A slice is too short for what is rare.
  const missing = tally.missing(rows, (row) => campaign.implements(row));
  if (full) assert.deepEqual(missing, [], "every row was answered in all ways that it can be");
});
