/** Our own input device passes the suite. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Folder } from "../support/folder.ts";
import { examine, failures, ours } from "./subject.ts";

const options = { timeout: 110_000 };

test("vhost-user-input fails nothing", options, async () => {
  using folder = new Folder();
  const command = ours("vhost-user-input", `--kind=multitouch --listen=${folder.at("listen")}`);
  const results = await examine(command, { device: "input" });
  assert.deepEqual(failures(results), []);
  const passed = results.filter(({ outcome }) => outcome === "pass").map(({ id }) => id);
  assert.ok(passed.length >= 50);
  assert.ok(passed.filter((id) => id.startsWith("input.")).length >= 10, passed.join());
});
