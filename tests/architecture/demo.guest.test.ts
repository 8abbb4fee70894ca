/** `npm run demo -- --guest`. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { labProblem } from "../guest/lab.ts";
import { runDemo } from "./demo.ts";

describe("the demo with a guest", () => {
  it("boots Linux, makes a file system and reads back what it wrote", {
    skip: labProblem() ?? false,
    timeout: 120_000,
  }, async () => {
    const { status, stdout, stderr } = await runDemo(["--guest", "--json", "--seconds=0.1"]);
    assert.equal(status, 0, stderr);
    const steps: { step: string }[] = JSON.parse(stdout).guest;
    const said = steps.map(({ step }) => step).join("\n");
    assert.match(said, /^Linux .* is up in QEMU\nmkfs.ext4 .*\n.*read back equal\ne2fsck .*clean$/);
  });
});
