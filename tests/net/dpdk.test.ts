/** A DPDK front-end (virtio-user), which polls and knows packed rings and IN_ORDER: nothing is lost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { installed, Testpmd } from "../../bench/lib/testpmd.ts";
import { runtime } from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher } from "../support/program.ts";
import { Program } from "../tools/process.ts";

if (!installed && process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error("no dpdk-testpmd");
const skip = installed ? false : "no dpdk-testpmd: Debian has it in dpdk-dev";

interface Counters {
  readonly txFrames: number;
  readonly txInvalid: number;
  readonly rxFrames: number;
  readonly rxDropped: number;
}

/** What each device of a program says of itself at its front-end's end. */
function countersOf(program: Program): Counters[] {
  return [...program.stderr.matchAll(/Frames so far \((.*?)\)/g)].map(
    ([, text]) =>
      Object.fromEntries(
        text!.split(", ").map((pair) => [pair.split("=")[0], Number(pair.split("=")[1])]),
      ) as unknown as Counters,
  );
}

async function exchange(
  args: readonly string[],
  ports: number,
  settings: string,
  mode: readonly string[],
  start: string,
) {
  using folder = new Folder();
  const sockets = Array.from({ length: ports }, (_, i) => folder.at(`s${i}`));
  const command = [...args, ...sockets.map((socket) => `--socket-path=${socket}`)];
  const env = { RINGSIDE_RUNTIME: runtime.name };
  const program = new Program(launcher("vhost-user-net"), command, {
    socket: sockets.at(-1)!,
    env,
  });
  await program.ready();
  const vdevs = sockets.map((path) => `net_virtio_user,path=${path},queue_size=256,${settings}`);
  const front = await new Testpmd({ vdevs, cpu: 1, args: mode }).ready();
  try {
    await front.command(start);
    await sleep(500);
    await front.command("stop");
    await sleep(300);
    const { rx, tx } = await front.stats();
    await front.stop();
    for (let i = 0; i < 100 && countersOf(program).length < ports; i++) await sleep(20);
    const all = countersOf(program);
    assert.equal(all.length, ports, program.stderr);
    const sum = (name: keyof Counters) => all.reduce((total, each) => total + each[name], 0);
    return { rx, tx, sent: sum("txFrames"), invalid: sum("txInvalid"), got: sum("rxFrames") };
  } finally {
    await front.stop();
    await program.stop();
  }
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

describe("the network device with a DPDK front-end", { skip }, () => {
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
