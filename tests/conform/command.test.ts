/** `ringside conform` as a command: reports, choice of checks, exit status. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { launcher } from "../support/program.ts";
import { ours } from "./subject.ts";

function conform(...args: string[]) {
  const env = { ...process.env, RINGSIDE_RUNTIME: runtime.name };
  const run = spawnSync(launcher("ringside"), ["conform", ...args], { env, encoding: "utf8" });
  return { status: run.status, out: run.stdout, err: run.stderr };
}

const program = ours("vhost-user-rng", "");
const only = "--only=negotiation.features,shmem.config,rings.split-one";
const exec = `--exec=${program}`;

describe("ringside conform", () => {
  it("lists checks without a back-end", () => {
    const { status, out } = conform("--list", "--group=framing,rings");
    assert.equal(status, 0);
    assert.match(out, /^framing\.reply-flags +.+ \[vhost-user: Header\]$/m);
    assert.match(out, /^rings\.split-one /m);
    assert.doesNotMatch(out, /^negotiation/m);
  });

  it("prints a line per check and a table of groups", () => {
    const { status, out } = conform(exec, "--device=rng", only);
    assert.equal(status, 0);
    assert.match(out, /^pass {2}negotiation\.features +GET_FEATURES .* \[vhost-user: /m);
    assert.match(out, /^n\/a {3}shmem\.config .*\n {6}not offered: /m);
    assert.match(out, /^ +pass +fail +n\/a +skip$/m);
    assert.match(out, /^all +2 +0 +1 +0$/m);
  });

  it("needs no --device where the back-end says what it is", () => {
    const draft = `--exec=${ours("vhost-user-blk", "--blk-file=ram:1M --draft=standalone")}`;
    const report = JSON.parse(conform(draft, only, "--json").out);
    assert.equal(report.device, "blk");
    assert.deepEqual(report.counts, { pass: 2, fail: 0, "n/a": 1, skip: 0 });
  });

  it("reports as TAP, JUnit and JSON", () => {
    const tap = conform(exec, "--device=rng", only, "--format=tap").out.split("\n");
    assert.deepEqual(tap.slice(0, 2), ["TAP version 13", "1..3"]);
    assert.match(tap[2]!, /^ok 1 negotiation\.features - /);
    assert.match(tap[4]!, /^ok 3 .* # SKIP n\/a: not offered: /);
    const junit = conform(exec, "--device=rng", only, "--format=junit").out;
    assert.match(junit, /<testsuite name="shmem" tests="1" failures="0" skipped="1">/);
    const report = JSON.parse(conform(exec, "--device=rng", only, "--json").out);
    assert.deepEqual(report.counts, { pass: 2, fail: 0, "n/a": 1, skip: 0 });
    assert.equal(report.device, "rng");
    assert.equal(report.results[0].id, "negotiation.features");
  });

  it("ends with 1 when a check fails", () => {
    // Taken for a disk, a source of entropy answers with anything but a sector.
    const { status, out } = conform(exec, "--device=blk", "--only=rings.split-one");
    assert.equal(status, 1, out);
    assert.match(out, /^fail {2}rings\.split-one/m);
  });

  it("ends with 1 when there is no back-end, and 2 when it is used wrongly", () => {
    const absent = conform("--socket-path=/nonexistent/socket", "--timeout=100");
    assert.equal(absent.status, 1);
    assert.match(absent.err, /^ringside: .*\/nonexistent\/socket.*\n$/);
    for (const args of [[], ["--only=nonsense", exec], ["--group=x", exec], ["--exec=true"]]) {
      const { status, err } = conform(...args);
      assert.equal(status, 2, args.join(" "));
      assert.match(err, /^ringside: [A-Z].*\n$/);
    }
  });
});
