/** A queue that breaks because of its driver says which chain or descriptor, which rule, and where it stands. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checks, probe, runChecks, Target } from "../../frontend/conform/mod.ts";
import { files, read } from "../architecture/sources.ts";
import { serveBlk } from "../support/blk.ts";

/** What stands for the place of the mistake: a descriptor, a chain, or an entry or index of a ring. */
const place =
  /(descriptor|slot|chain|entry|index) (\d+|moved)|chain from (descriptor|slot) \d+|descriptor \d+/;
const line = /The driver broke the queue: (.+) \(queue=\d+, rule=virtio 1\.3 2\.[78]\.[\d.]+\)$/;

/** Checks of hostile rings after which a disk does not go on as if nothing had been. */
const breaking = [
  "R1-head",
  "R1-next",
  "R2-self-loop",
  "R2-indirect-loop",
  "R3-indirect-next",
  "R3-nested",
  "R3-table-0",
  "R3-table-17",
  "R3-table-4294967280",
  "R3-table-outside",
  "R3-table-next",
  "R5-outside",
  "R5-partly-outside",
  "R5-wrap",
  "R6-order",
  "R8-jump",
  "R8-backwards",
  "R3-indirect-not-accepted",
];

describe("A queue that its driver broke", () => {
  test("is logged with place, rule and section", { timeout: 100_000 }, async () => {
    using program = serveBlk("ram:1M", ["--log-level=debug"]);
    using target = Target.at(program.socket, { timeout: 5000 });
    const offer = probe(target);
    for (const name of breaking) {
      const before = program.log.length;
      const only = checks.filter(({ id }) => id === `hostile.${name}`);
      assert.equal(only.length, 1, name);
      await runChecks(target, offer, { device: "blk", checks: only });
      const lines = program.log.slice(before).split("\n");
      const said = lines.filter((text) => text.includes("broke the queue"));
      assert.ok(said.length > 0, `${name} is explained: ${lines.join("\n")}`);
      for (const text of said) {
        const [, message] = line.exec(text) ?? assert.fail(`${name}: ${text}`);
        assert.match(message!, place, name);
      }
    }
  });

  test("is told in words that name a place, by every GuestError of core", () => {
    const thrown = files
      .filter((file) => file.startsWith("core/") && file.endsWith(".ts"))
      .flatMap((file) => {
        const calls = read(file).matchAll(
          /new GuestError\(\s*(["`][^"`]*["`]),\s*([^;]*?),?\s*\)/g,
        );
        return [...calls].map(([, message, rule]) => ({ file, message: message!, rule: rule! }));
      });
    assert.ok(thrown.length >= 12, `${thrown.length} found`);
    for (const { file, message, rule } of thrown) {
      const what = /descriptor|slot|chain|index|\$\{what\}/;
      assert.match(message, what, file);
      assert.match(
        rule,
        /^"(virtio 1\.3 2\.[78]|vhost-user: \w)|^`?\$?\{?\w+/,
        `${file}: ${message}`,
      );
    }
  });
});
