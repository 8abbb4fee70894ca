/** Our own disk in the ways that few ask for passes what is about them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checks } from "../../frontend/conform/mod.ts";
import { Folder } from "../support/folder.ts";
import { tardy } from "./mutant-suite.ts";
import { examine, failures, ours } from "./subject.ts";

const options = { timeout: 110_000 };

test(
  "a disk that answers late fails nothing, and what it has in flight is never lost",
  options,
  async () => {
    using folder = new Folder();
    const only = checks
      .filter(
        ({ id }) => /^(inflight|reconnect|skip-drain)\./.test(id) || id === "vrings.V11-drain",
      )
      .map(({ id }) => id);
    const results = await examine(tardy(folder.image(2 ** 20)), { device: "blk", only });
    assert.deepEqual(failures(results), []);
    assert.ok(results.every(({ outcome }) => outcome === "pass"));
  },
);

test("vhost-user-blk behind an IOMMU fails nothing", options, async () => {
  const only = checks.filter(({ id }) => /^(iotlb|handshake)\./.test(id)).map(({ id }) => id);
  const command = ours("vhost-user-blk", "--blk-file=ram:1M --iommu");
  const results = await examine(command, { device: "blk", only });
  assert.deepEqual(failures(results), []);
  const translated = results.filter(({ id }) => id.startsWith("iotlb."));
  assert.ok(translated.length >= 12 && translated.every(({ outcome }) => outcome === "pass"));
});

test("vhost-user-blk with drafts says itself what it is", options, async () => {
  const command = ours("vhost-user-blk", "--blk-file=ram:1M --draft=standalone --draft=vhost-pci");
  const only = checks.filter(({ id }) => id.startsWith("drafts.")).map(({ id }) => id);
  const results = await examine(command, { device: "blk", only });
  assert.deepEqual(
    results.map(({ id, outcome }) => `${id}: ${outcome}`),
    only.map((id) => `${id}: pass`),
  );
});
