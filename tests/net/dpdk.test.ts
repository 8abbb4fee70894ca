/** A DPDK front-end (virtio-user), which polls and knows packed rings and IN_ORDER: nothing is lost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { dpdkProblem, NetProgram, sum, withFront } from "./dpdk.ts";

async function exchange(
  args: readonly string[],
  ports: number,
  settings: string,
  mode: readonly string[],
  start: string,
) {
  await using program = await NetProgram.start(args, ports);
  const vdevs = program.sockets.map((_, i) => program.vdev(i, settings));
  const { rx, tx } = await withFront(vdevs, mode, async (front) => {
    await front.command(start);
    await sleep(500);
    await front.command("stop");
    await sleep(300);
    return front.stats();
  });
  const all = await program.counters();
  const [sent, invalid, got] = [sum(all, "txFrames"), sum(all, "txInvalid"), sum(all, "rxFrames")];
  return { rx, tx, sent, invalid, got };
}

const kinds = [
  "queues=1",
  "queues=1,mrg_rxbuf=0",
  "queues=1,in_order=1",
  "queues=1,packed_vq=1",
  "queues=1,packed_vq=1,in_order=1",
  "queues=1,packed_vq=1,mrg_rxbuf=0,in_order=0",
  "queues=2",
];

describe("the network device with a DPDK front-end", { skip: dpdkProblem() }, () => {
  for (const kind of kinds) {
    const queues = kind.includes("queues=2") ? 2 : 1;
    const more = queues === 2 ? ["--rxq=2", "--txq=2"] : [];
    it(`takes every frame that is sent: ${kind}`, async () => {
      const args = ["--null", `--queue-pairs=${queues}`];
      const mode = ["--forward-mode=txonly", "--txpkts=64", ...more];
      const { tx, sent, invalid } = await exchange(args, 1, kind, mode, "start");
      assert.ok(tx > 1000, `${tx} frames`);
      assert.deepEqual([sent, invalid], [tx, 0]);
    });
  }

  for (const kind of kinds.slice(0, -1)) {
    it(`brings every frame back: ${kind}`, async () => {
      const mode = ["--forward-mode=io", "--txpkts=64"];
      const figures = await exchange(["--loopback"], 1, kind, mode, "start tx_first 2");
      assert.ok(figures.rx > 1000, `${figures.rx} frames`);
      assert.deepEqual([figures.sent, figures.got, figures.invalid], [figures.tx, figures.tx, 0]);
      assert.ok(figures.tx - figures.rx <= 64, `${figures.tx} sent, ${figures.rx} came back`);
    });
  }

  it("passes every frame from port to port", async () => {
    const mode = ["--forward-mode=mac", "--txpkts=64"];
    const figures = await exchange(["--switch"], 2, "queues=1", mode, "start tx_first 1");
    assert.ok(figures.rx > 1000, `${figures.rx} frames`);
    assert.deepEqual([figures.sent, figures.got, figures.invalid], [figures.tx, figures.tx, 0]);
  });
});
