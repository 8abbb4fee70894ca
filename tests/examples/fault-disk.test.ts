import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { BlkDriver, BlkError } from "../../frontend/mod.ts";
import { Program } from "../conventions/program.ts";
import { launch } from "../conventions/run.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";

const example = join(root, "examples", "fault-disk.ts");

/** Serves the example by some rules to `act`. */
async function withRules(rules: readonly string[], act: (disk: BlkDriver) => void): Promise<void> {
  using folder = new Folder();
  const args = [example, "--size=4M", `--socket-path=${folder.at("s")}`];
  const given = rules.map((rule) => `--rule=${rule}`);
  using program = await new Program("ringside", [...args, ...given]).listens(folder.at("s"));
  {
    using disk = BlkDriver.connect(folder.at("s"));
    act(disk);
  }
  assert.deepEqual(await program.stop(), { code: 0, signal: null });
}

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

describe("examples/fault-disk.ts", () => {
  it("is a faultless disk without rules", () =>
    withRules([], (disk) => {
      assert.equal(disk.size(), 4 * 1024 * 1024);
      disk.write(8, filled(4096, 5));
      disk.flush();
      assert.deepEqual(disk.read(8, 4096), filled(4096, 5));
    }));

  it("fails every Nth request", () =>
    withRules(["read,every=3,error", "flush,error"], (disk) => {
      const failed = Array.from({ length: 9 }, () => {
        try {
          disk.read(0, 512);
          return false;
        } catch (error) {
          assert.ok(error instanceof BlkError);
          return true;
        }
      });
      assert.deepEqual(failed, [false, false, true, false, false, true, false, false, true]);
      assert.throws(() => disk.flush(), BlkError);
      disk.write(0, filled(512, 1));
    }));

  it("fails in a range", () =>
    withRules(["write,from=1M,to=2M,error"], (disk) => {
      const at = (bytes: number) => bytes / 512;
      disk.write(at(1024 * 1024) - 1, filled(512, 1));
      assert.throws(() => disk.write(at(1024 * 1024), filled(512, 1)), BlkError);
      assert.throws(() => disk.write(at(1024 * 1024) - 1, filled(1024, 1)), BlkError);
      assert.throws(() => disk.write(at(2 * 1024 * 1024) - 1, filled(512, 1)), BlkError);
      disk.write(at(2 * 1024 * 1024), filled(512, 1));
      disk.read(at(1024 * 1024), 512);
    }));

  it("tears writes that it reports as done", () =>
    withRules(["write,every=2,torn"], (disk) => {
      disk.write(0, filled(4096, 1));
      disk.write(0, filled(4096, 2));
      const data = disk.read(0, 4096);
      assert.deepEqual(data.subarray(0, 2048), filled(2048, 2));
      assert.deepEqual(data.subarray(2048), filled(2048, 1));
    }));

  it("lets requests overtake one that it delays", () =>
    withRules(["read,from=0,to=512,delay=300"], (disk) => {
      const queue = disk.queues[0]!;
      const [slow, fast] = [queue.acquire(), queue.acquire()];
      queue.submit(slow, 0, 0, 512);
      queue.submit(fast, 0, 8, 512);
      queue.publish();
      const order = [slow, fast].map(() => {
        assert.ok(queue.wait());
        return queue.take();
      });
      assert.deepEqual(order, [fast, slow]);
    }));

  it("refuses rules that it does not understand", () => {
    const refusal = (rule: string) => {
      const args = [example, "--socket-path=/proc/nonexistent/s", `--rule=${rule}`];
      const { status, stderr } = launch("ringside", args);
      assert.equal(status, 1);
      return stderr;
    };
    assert.match(refusal("erase,error"), /Cannot use the rule "erase,error": unknown word "erase"/);
    assert.match(refusal("read,oops"), /unknown word "oops"/);
    assert.match(refusal("read,every=often"), /Cannot use "often" as a number/);
  });
});
