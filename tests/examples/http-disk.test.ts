import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { runtime } from "../../ffi/mod.ts";
import { BlkDriver, BlkError, BlkFeature } from "../../frontend/mod.ts";
import { Program } from "../conventions/program.ts";
import { launch } from "../conventions/run.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";

const SIZE = 1024 * 1024;
const example = join(root, "examples", "http-disk.ts");

let server: ChildProcess;
let origin = "";

before(async () => {
  const script = fileURLToPath(new URL("range-server.ts", import.meta.url));
  const flags = runtime.name === "deno" ? ["run", "-A", "--no-check"] : [];
  const args = [...flags, script, String(SIZE)];
  server = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve) => {
    server.stdout!.once("data", (line) => resolve(String(line).trim()));
  });
  origin = `http://127.0.0.1:${port}`;
});
after(() => server.kill());

describe("examples/http-disk.ts", () => {
  it("reads what the server has, also with many requests at a time", async () => {
    using folder = new Folder();
    const args = [example, `--url=${origin}/disk`, `--socket-path=${folder.at("s")}`];
    using program = await new Program("ringside", args).listens(folder.at("s"));
    {
      using disk = BlkDriver.connect(folder.at("s"), { depth: 16 });
      assert.equal(disk.size(), SIZE);
      assert.ok(disk.frontend.features & (1n << BigInt(BlkFeature.RO)));
      const data = disk.read(700, 65536);
      assert.equal(data.length, 65536);
      assert.equal(
        data.findIndex((byte, i) => byte !== (700 + Math.floor(i / 512)) % 251),
        -1,
      );
      readTogether(disk, 16);
      assert.throws(() => disk.write(0, new Uint8Array(512)), BlkError);
      assert.throws(() => disk.read(SIZE / 512, 512), BlkError);
    }
    assert.deepEqual(await program.stop(), { code: 0, signal: null });
  });

  it("fails a request when the server does, and goes on", async () => {
    using folder = new Folder();
    const args = [example, `--url=${origin}/disk`, `--socket-path=${folder.at("s")}`];
    using program = await new Program("ringside", args).listens(folder.at("s"));
    {
      using disk = BlkDriver.connect(folder.at("s"));
      server.kill("SIGKILL");
      await once(server, "exit");
      assert.throws(() => disk.read(0, 512), BlkError);
      assert.throws(() => disk.read(0, 512), BlkError);
      assert.equal(disk.size(), SIZE);
    }
    assert.equal((await program.stop()).code, 0);
  });

  it("does not start where no ranges can be had", () => {
    using folder = new Folder();
    const socket = `--socket-path=${folder.at("s")}`;
    const { status, stderr } = launch("ringside", [example, `--url=data:,x`, socket]);
    assert.equal(status, 1);
    assert.match(stderr, /^vhost-user-http-disk: Cannot open data:,x: no range of it can be had/);
  });
});

/** Keeps `count` reads in flight and checks each. */
function readTogether(disk: BlkDriver, count: number): void {
  const queue = disk.queues[0]!;
  const sectors = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const slot = queue.acquire();
    sectors.set(slot, i * 3);
    queue.submit(slot, 0, i * 3, 512);
  }
  queue.publish();
  while (sectors.size > 0) {
    assert.ok(queue.wait());
    for (let slot = queue.take(); slot >= 0; slot = queue.take()) {
      assert.equal(queue.status(slot), 0);
      const sector = sectors.get(slot)!;
      assert.ok(queue.data(slot, 512).every((byte) => byte === sector % 251));
      sectors.delete(slot);
      queue.release(slot);
    }
  }
}
