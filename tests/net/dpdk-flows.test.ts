/** What a DPDK front-end sends is what it, or another one, gets: counted to the last frame, and compared byte by byte. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readCapture, readPcap, writePcap } from "./captures.ts";
import { dpdkProblem, drain, NetProgram, withFront } from "./dpdk.ts";

const queuesOf = (kind: string) => (kind.includes("queues=2") ? 2 : 1);
const queueArgs = (queues: number) => [`--rxq=${queues}`, `--txq=${queues}`];

const kinds = [
  "queues=1,mrg_rxbuf=1",
  "queues=1,mrg_rxbuf=0",
  "queues=2,mrg_rxbuf=1",
  "queues=2,mrg_rxbuf=0",
];

/** Random frames from 60 bytes up to `longest`. */
function randomFrames(count: number, longest: number): Buffer[] {
  const length = (i: number) =>
    i === 0 ? 60 : i === 1 ? longest : 60 + Math.floor(Math.random() * (longest - 59));
  return Array.from({ length: count }, (_, i) => randomBytes(length(i)));
}

/** Short enough for a message about what differs. */
const digest = (frame: Uint8Array) =>
  `${frame.length} ${createHash("md5").update(frame).digest("hex").slice(0, 8)}`;

describe("flows of a DPDK front-end", { skip: dpdkProblem() }, () => {
  for (const kind of [...kinds, "queues=1,packed_vq=1", "queues=2,packed_vq=1,in_order=1"]) {
    const queues = queuesOf(kind);
    it(`come back to the last frame: ${kind}`, async () => {
      await using program = await NetProgram.start(["--loopback", `--queue-pairs=${queues}`]);
      const mode = ["--forward-mode=flowgen", ...queueArgs(queues)];
      const { rx, tx } = await withFront([program.vdev(0, kind)], mode, async (front) => {
        await front.command("start");
        await sleep(500);
        await front.command("stop");
        await drain(front);
        return front.stats();
      });
      const [port] = await program.counters();
      const { txFrames, txDropped, txInvalid, rxFrames, rxDropped, rxFiltered } = port!;
      assert.ok(rx > 1000, `${rx} frames`);
      assert.equal(txFrames + txDropped, tx, "each one that it sent was seen");
      assert.equal(rxFrames, rx, "each one that it was given was got");
      assert.deepEqual([rxFrames, rxDropped], [txFrames, txDropped]);
      assert.deepEqual([txInvalid, rxFiltered], [0, 0]);
    });
  }

  for (const kind of kinds) {
    const queues = queuesOf(kind);
    it(`reach another one that only listens: ${kind}`, async () => {
      await using program = await NetProgram.start(["--switch", `--queue-pairs=${queues}`], 2);
      const listening = ["--forward-mode=rxonly", ...queueArgs(queues)];
      const sending = ["--forward-mode=txonly", "--txpkts=200", ...queueArgs(queues)];
      const { rx, tx } = await withFront([program.vdev(1, kind)], listening, async (listener) => {
        await listener.command("start");
        const { tx } = await withFront([program.vdev(0, kind)], sending, async (sender) => {
          await sender.command("start");
          await sleep(500);
          await sender.command("stop");
          await sleep(200);
          return sender.stats();
        });
        await sleep(200);
        await listener.command("stop");
        const { rx } = await listener.stats();
        return { rx, tx };
      });
      const [from, to] = await program.counters();
      assert.ok(rx > 1000, `${rx} frames`);
      assert.equal(from!.txFrames + from!.txDropped, tx, "each one that was sent was seen");
      assert.equal(to!.rxFrames, rx, "each one that was given was got");
      assert.deepEqual([to!.rxFrames, to!.rxDropped], [from!.txFrames, from!.txDropped]);
    });
  }
});

describe("frames of a DPDK front-end", { skip: dpdkProblem() }, () => {
  // As many as fit into rings of 256 buffers of 2 KiB: none may be lost.
  const payloads: readonly [string, number, number][] = [
    ["queues=1,mrg_rxbuf=1", 45, 9000],
    ["queues=1,mrg_rxbuf=0", 200, 1514],
    // DPDK marks the header of a frame in several buffers of a packed ring as device-writable.
    ["queues=1,packed_vq=1,mrg_rxbuf=1", 200, 1514],
    ["queues=1,packed_vq=1,mrg_rxbuf=0,in_order=1", 200, 1514],
  ];
  for (const [kind, count, longest] of payloads) {
    it(`come back byte for byte: ${kind}`, async () => {
      const args = ["--loopback", "--pcap=FOLDER/own.pcapng"];
      await using program = await NetProgram.start(args);
      const { folder } = program;
      const frames = randomFrames(count, longest);
      writePcap(folder.at("in.pcap"), frames);
      const file = `net_pcap,rx_pcap=${folder.at("in.pcap")},tx_pcap=${folder.at("out.pcap")}`;
      const mode = ["--forward-mode=io", "--no-flush-rx"];
      await withFront([program.vdev(0, kind), file], mode, async (front) => {
        // Only one of its ports can have frames that are longer than its buffers.
        const long = ["port stop all", "port config 0 rx_offload scatter on"];
        long.push("port config mtu 0 9000", "port start all");
        if (longest > 1514) for (const command of long) await front.command(command);
        await front.command("start");
        await sleep(300);
        await front.command("stop");
      });
      assert.deepEqual(readPcap(folder.at("out.pcap")).map(digest), frames.map(digest));
      const own = readCapture(folder.at("own.pcapng"));
      for (const direction of [1, 2]) {
        const seen = own.filter((packet) => packet.direction === direction);
        const digests = seen.map(({ data }) => digest(data));
        assert.deepEqual(digests, frames.map(digest), `direction ${direction}`);
      }
    });
  }
});
