/** Our own source of entropy passes the suite. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examine, failures, ours } from "./subject.ts";

const options = { timeout: 110_000 };

test("vhost-user-rng fails nothing", options, async () => {
  const results = await examine(ours("vhost-user-rng", ""), { device: "rng" });
  assert.deepEqual(failures(results), []);
  assert.ok(results.filter(({ outcome }) => outcome === "pass").length >= 50);
});

test("without a device, what needs one is skipped and not passed", options, async () => {
  const only = ["negotiation.features", "rings.split-one"];
  const results = await examine(ours("vhost-user-rng", ""), { only });
  assert.deepEqual(
    results.map(({ outcome }) => outcome),
    ["pass", "skip"],
  );
});
