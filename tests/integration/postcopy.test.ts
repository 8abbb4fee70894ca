/** Guests that run on another machine before their memory is there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { readFault, wakeFaults } from "../../ffi/mod.ts";
import { BlkRequest, HEADER_SIZE } from "../../frontend/drivers/blk-wire.ts";
import {
  BlkDriver,
  Frontend,
  Journal,
  Postcopy,
  protocolFeatures,
  runWorkload,
  sleep,
  waitFor,
} from "../../frontend/mod.ts";
import { assertClean, MIB, serveBlk, verifySocket } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { MovingMemory } from "../support/moving-memory.ts";
import { openFiles } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";

const protocol = protocolFeatures | mask(ProtocolFeature.PAGEFAULT);
/** Of several pages, so that a request waits for more than one of them. */
const blockSize = 16384;
const blocks = 256;

/**
 * What a back-end has open once it has watched a front-end: the runtime keeps a few descriptors after its
 * first Worker, and lets others go some time after each.
 */
function openFilesBefore(target: Program): Map<string, number> {
  for (let i = 0; i < 2; i++) {
    using frontend = Frontend.open(target.socket, { protocol });
    new Postcopy(frontend.connection, frontend.agreed.protocol)[Symbol.dispose]();
    frontend.disconnect();
  }
  let files = openFiles(target.pid);
  return until(() => {
    sleep(300);
    const earlier = files;
    files = openFiles(target.pid);
    return isDeepStrictEqual(files, earlier) ? files : null;
  }, "an end of changes");
}

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

test("a front-end that goes away leaves nothing behind, and the next one is served", async () => {
  using target = serveBlk("ram:4M", ["--postcopy"]);
  const before = openFilesBefore(target);
  for (const steps of [1, 2, 3, 4]) {
    using frontend = Frontend.open(target.socket, { protocol });
    using postcopy = new Postcopy(frontend.connection, frontend.agreed.protocol);
    if (steps > 1) postcopy.listen();
    if (steps > 2) postcopy.sendTable(frontend.memory.regions);
    if (steps > 3) postcopy.confirmTable();
    // While the table is unanswered, nothing else may be said.
    if (steps !== 3) frontend.barrier();
    assert.equal(openFiles(target.pid).get("anon_inode:[userfaultfd]"), 1);
    // Our copy of the descriptor stays open for a while: the back-end must not rely on its end.
    frontend.disconnect();
    verifySocket(target.socket);
  }
  // The end of the last session is on its way.
  const same = () => isDeepStrictEqual(openFiles(target.pid), before) || null;
  until(same, "the end of all that came with the sessions");
});

test("a message that starts a ring is answered before the ring's memory is there", () => {
  using target = serveBlk("ram:4M", ["--postcopy"]);
  using frontend = Frontend.open(target.socket, { protocol });
  using postcopy = new Postcopy(frontend.connection, frontend.agreed.protocol);
  const vring = frontend.addVring(0, { size: 16 });
  const [region] = frontend.memory.regions;
  // The ring that was just made is in the old file; the back-end gets one without a page.
  using _old = region!.renew();
  postcopy.listen();
  frontend.acceptFeatures();
  const [address] = postcopy.sendTable([region!]);
  postcopy.confirmTable();
  // Each of these waits for its acknowledgement, and nobody serves faults.
  frontend.startVrings([vring], [0]);
  assert.ok(waitFor(postcopy.fd.number, 1, 10_000), "the back-end waits for its ring");
  const page = readFault(postcopy.fd)!;
  const offset = page - address!;
  assert.ok(offset >= 0 && offset < region!.plan.size, "at the address that it told");
  frontend.memory.bytes(region!.plan.guestAddress, MIB).fill(0);
  wakeFaults(postcopy.fd, address!, MIB);
  frontend.barrier();
  postcopy.end();
  // What has not come is zeros now, although the descriptor is still open here.
  const { ring } = vring;
  const at = region!.plan.guestAddress + 2 * MIB;
  frontend.memory.write(at, new Uint8Array(HEADER_SIZE));
  ring.push(at, HEADER_SIZE, false);
  ring.push(at + MIB, 512 + 1, true);
  ring.add(0);
  vring.publish();
  assert.ok(vring.wait(5_000), "the request is completed");
  assert.ok(ring.next());
  assert.equal(ring.written, 512 + 1);
  assert.equal(vring.broken(), false);
});

test("a front-end that dies while the back-end waits for a page wakes it, and no data is made up", () => {
  using folder = new Folder();
  const image = folder.image(4 * MIB);
  const old = Buffer.alloc(4 * MIB, 0xaa);
  writeFileSync(image, old);
  using target = serveBlk(image, ["--postcopy"]);
  const before = openFilesBefore(target);
  using frontend = Frontend.open(target.socket, { protocol });
  const vring = frontend.addVring(0, { size: 16 });
  const [region] = frontend.memory.regions;
  const at = region!.plan.guestAddress + 2 * MIB;
  using postcopy = new Postcopy(frontend.connection, frontend.agreed.protocol);
  // All of the new memory is there but for the data of a request that writes.
  using _old = region!.renew();
  frontend.memory.bytes(region!.plan.guestAddress, MIB).fill(0);
  frontend.memory.write(at, new Uint8Array([BlkRequest.OUT]));
  const { ring } = vring;
  ring.push(at, HEADER_SIZE, false);
  ring.push(at + MIB, 4096, false);
  ring.push(at + MIB / 2, 1, true);
  ring.add(0);
  vring.publish();
  postcopy.listen();
  frontend.acceptFeatures();
  const [address] = postcopy.sendTable([region!]);
  postcopy.confirmTable();
  frontend.startVrings([vring], [0]);
  assert.ok(waitFor(postcopy.fd.number, 1, 10_000), "the back-end waits for the data");
  assert.equal(readFault(postcopy.fd)! - address!, 3 * MIB);
  frontend.disconnect();
  until(() => isDeepStrictEqual(openFiles(target.pid), before) || null, "the end of the session");
  assert.match(target.log, /memory that will never come/);
  assert.ok(readFileSync(image).equals(old), "nothing was written");
  verifySocket(target.socket);
});

const permitted = readFileSync("/proc/sys/vm/unprivileged_userfaultfd", "utf8").trim() === "1";
const setpriv = spawnSync("setpriv", ["--bounding-set=-sys_ptrace", "true"]).status === 0;
const skip = permitted ? "anybody may make a userfaultfd here" : !setpriv && "no setpriv";

test("a back-end that may not make a userfaultfd says how to permit it", { skip }, () => {
  using folder = new Folder();
  const command = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
  const program = [launcher("vhost-user-blk"), "--socket-path=SOCKET", "--blk-file=ram:1M"];
  using target = new Program([...command, ...program, "--postcopy"], { folder });
  using frontend = Frontend.open(target.socket, { protocol });
  const advise = () => new Postcopy(frontend.connection, frontend.agreed.protocol);
  assert.throws(advise, /refused POSTCOPY_ADVISE/);
  assert.match(target.log, /Refused POSTCOPY_ADVISE .*EPERM.*unprivileged_userfaultfd/);
  frontend.barrier();
});
