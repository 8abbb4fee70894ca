/** Our own back-ends pass the suite. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checks } from "../../frontend/conform/mod.ts";
import { Folder } from "../support/folder.ts";
import { examine, failures, ours } from "./subject.ts";

const options = { timeout: 110_000 };

test("ids are unique, and each check has a title and a source", () => {
  const ids = checks.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.length >= 80, `${ids.length} checks`);
  for (const { id, title, source } of checks) {
    assert.match(id, /^[a-z-]+\.[A-Za-z0-9-]+$/);
    assert.ok(title.length > 10 && !title.endsWith("."), title);
    assert.match(source, /^(virtio 1\.3 \d|vhost-user: )/, id);
  }
});

test("vhost-user-blk fails nothing", options, async () => {
  using folder = new Folder();
  const command = ours("vhost-user-blk", `--blk-file=${folder.image(16 * 2 ** 20)}`);
  const results = await examine(command, { device: "blk" });
  assert.deepEqual(failures(results), []);
  assert.ok(results.filter(({ outcome }) => outcome === "pass").length >= 60);
  assert.ok(results.every(({ outcome }) => outcome !== "skip"));
});
