/** Guests that run on another machine before their memory is there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { BlkDriver, Journal, protocolFeatures, runWorkload } from "../../frontend/mod.ts";
import { assertClean, MIB, serveBlk } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { MovingMemory } from "../support/moving-memory.ts";
import { openFiles } from "../support/process-status.ts";

const protocol = protocolFeatures | mask(ProtocolFeature.PAGEFAULT);
/** Of several pages, so that a request waits for more than one of them. */
const blockSize = 16384;
const blocks = 256;

for (const share of ["slots", "table"] as const) {
  test(`a disk serves a guest before its memory has come, which shared ${share}`, async () => {
    using folder = new Folder();
    const image = folder.image(4 * MIB);
    await using source = serveBlk(image);
    await using target = serveBlk(image, ["--postcopy"]);
    const memory = { regions: 3, size: 4 * MIB };
    using driver = BlkDriver.connect(source.socket, { protocol, memory, depth: 16, share });
    const { frontend } = driver;
    const journal = new Journal(blockSize, blocks);
    const common = { blockSize, blocks, journal };
    const run = (operation: "write" | "mixed" | "read", requests: number, order = "random") =>
      assertClean(
        runWorkload(driver, { operation, requests, order: order as "random", ...common }),
        requests,
      );
    run("write", blocks, "sequential");

    await using pages = await MovingMemory.of(frontend.memory);
    {
      using postcopy = frontend.migrate(target.socket, pages);
      assert.ok(openFiles(target.pid).has("anon_inode:[userfaultfd]"));
      run("read", 40);
      run("mixed", 400);
      assert.ok(pages.remoteFaults > 30, `the back-end waited for ${pages.remoteFaults} pages`);
      assert.ok(pages.ownFaults > 0, "so did the guest");
      pages.push();
      run("mixed", 400);
      pages.complete();
      postcopy.end();
    }
    run("mixed", 400);
    run("read", blocks, "sequential");
    assert.equal(openFiles(target.pid).get("anon_inode:[userfaultfd]"), undefined);
    frontend.disconnect();
    assert.ok(target.stop());
  });
}
