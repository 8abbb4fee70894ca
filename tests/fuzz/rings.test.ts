/** Ring contents, near to right and far from it, that change while they are read. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RingCampaign } from "./ring-campaign.ts";
import { full, seed } from "./settings.ts";

const limits = full ? { amount: 10_000_000 } : { milliseconds: 7000 };

test("back-ends survive what drivers put into rings, and other queues go on", () => {
  console.log(`rings: RINGSIDE_SEED=${seed}`);
  using campaign = new RingCampaign({ seed, ...limits });
  campaign.run();
  console.log(`rings: ${campaign}, ${campaign.bursts} bursts`);
  const { walked, offered, broken, flipped, verified } = campaign.tally;
  assert.ok(walked > offered / 4, "most of what is made available is walked");
  assert.ok(broken > 20 && flipped > 20 && verified > 20, "rings broke while others went on");
});
