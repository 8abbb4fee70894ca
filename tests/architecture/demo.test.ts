/** `npm run demo`: the first thing that anybody runs. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, it } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { runDemo } from "./demo.ts";

describe("the demo", () => {
  it("verifies 256 MiB, measures three queue depths and cleans up", async () => {
    const { status, stdout, stderr } = await runDemo(["--json", "--seconds=0.1"]);
    assert.equal(status, 0, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.runtime, runtime.name);
    assert.equal(result.size, 2 ** 30);
    assert.equal(result.verify.bytes, 2 ** 28);
    assert.ok(result.allocatedBytes >= 2 ** 28 && result.allocatedBytes < 2 ** 29);
    const depths = result.random.map(({ depth }: { depth: number }) => depth);
    assert.deepEqual(depths, [1, 32, 128]);
    for (const { iops, p50, p99 } of result.random) assert.ok(iops > 0 && p50 > 0 && p99 >= p50);
  });

  it("prints plain lines where there is no terminal, and a QEMU command line", async () => {
    const { status, stdout, stderr } = await runDemo(["--seconds=0.1"]);
    assert.equal(status, 0, stderr);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    assert.doesNotMatch(stdout, /[\r\x1b]/);
    assert.match(stdout, /every block is what was written/);
    assert.match(stdout, /bin\/vhost-user-blk --socket-path=disk.sock/);
    assert.match(stdout, /qemu-system-x86_64 .*\n.*memory-backend-memfd.*share=on/);
  });

  it("ends with one line for a wrong option", async () => {
    const { status, stdout, stderr } = await runDemo(["--runtime=perl"]);
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.equal(stderr, 'error: --runtime is bun or deno: "perl"\n');
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const before = new Set(readdirSync(tmpdir()));
    const { status } = await runDemo(["--seconds=20"], { interruptAfter: "verifying" });
    assert.equal(status, 1);
    const left = readdirSync(tmpdir()).filter((name) => name.startsWith("ringside-demo-"));
    // Another run of the demo may have begun meanwhile, under the other runtime.
    assert.ok(left.filter((name) => !before.has(name)).length <= 1, left.join(" "));
  });
});
