/** Our own network device passes the suite. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examine, failures, ours } from "./subject.ts";

const options = { timeout: 110_000 };

test("vhost-user-net fails nothing", options, async () => {
  const command = ours("vhost-user-net", "--loopback --queue-pairs=2 --mac=52:54:00:12:34:56");
  const results = await examine(command, { device: "net" });
  assert.deepEqual(failures(results), []);
  const passed = results.filter(({ outcome }) => outcome === "pass").map(({ id }) => id);
  assert.ok(passed.length >= 50);
  assert.equal(passed.filter((id) => id.startsWith("net.")).length, 14, passed.join());
});
