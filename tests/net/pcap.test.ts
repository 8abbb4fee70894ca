/** `--pcap`: what tshark says of the file, or at least that the file is well-formed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { NetDriver } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program } from "../support/program.ts";
import { readCapture } from "./captures.ts";
import { makeFrame } from "./frames.ts";

describe("a capture", () => {
  it("has all frames of both directions", () => {
    using folder = new Folder();
    const file = folder.at("capture.pcapng");
    using program = new Program([
      launcher("vhost-user-net"),
      "--loopback",
      `--pcap=${file}`,
      "--socket-path=SOCKET",
    ]);
    const lengths = [14, 15, 16, 17, 60, 1514, 9000, 65_553];
    const before = BigInt(Date.now()) * 1_000_000n;
    {
      using driver = NetDriver.connect(program.socket);
      for (const [i, length] of lengths.entries()) {
        driver.pair.send(makeFrame(length, i));
        assert.equal(driver.pair.receive()?.data.length, length);
      }
    }
    const packets = readCapture(file);
    for (const direction of [1, 2]) {
      const frames = packets.filter((packet) => packet.direction === direction);
      assert.deepEqual(
        frames.map(({ data }) => Buffer.from(data).toString("hex")),
        lengths.map((length, i) => Buffer.from(makeFrame(length, i)).toString("hex")),
      );
    }
    const times = packets.map(({ time }) => time);
    assert.ok(times[0]! > before - 1_000_000_000n && times.at(-1)! < before + 60_000_000_000n);
    const tshark = spawnSync("tshark", ["-r", file, "-T", "fields", "-e", "frame.len"], {
      encoding: "utf8",
    });
    if (tshark.status === null) return;
    const seen = tshark.stdout.trim().split("\n").map(Number);
    assert.deepEqual(
      seen.filter((_, i) => packets[i]!.direction === 2),
      lengths,
      tshark.stderr,
    );
  });
});
