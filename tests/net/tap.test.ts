/** The network device at a tap interface in a network namespace, against the kernel's own stack. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { NetDriver, NetFeature, type NetOptions, netFeatures } from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";
import { Namespace, tapProblem } from "./namespace.ts";
import { arpReply, arpRequest, type Endpoint, echoRequest } from "./packets.ts";

const skip = tapProblem();
const guest: Endpoint = { mac: [2, 0, 0, 0, 0, 9], ip: [10, 77, 0, 2] };
const offloads = mask(
  NetFeature.CSUM,
  NetFeature.GUEST_CSUM,
  NetFeature.GUEST_TSO4,
  NetFeature.HOST_TSO4,
);

/** The next frame on any pair: the kernel chooses one by the flow. Null when none comes. */
function nextFrame(driver: NetDriver): Uint8Array | null {
  const { pairs } = driver;
  if (pairs.length === 1) return driver.pair.receive(3000)?.data ?? null;
  for (let i = 0; i < 300; i++) {
    const got = pairs[i % pairs.length]!.receive(10);
    if (got !== null) return got.data;
  }
  return null;
}

/** The next frame that is IPv4; answers ARP meanwhile. */
function nextPacket(driver: NetDriver): Uint8Array | null {
  for (;;) {
    const got = nextFrame(driver);
    if (got === null || (got[12] === 8 && got[13] === 0)) return got;
    const reply = arpReply(got, guest);
    if (reply !== null) driver.pair.send(reply);
  }
}

function findHost(driver: NetDriver): Endpoint {
  const ip = [10, 77, 0, 1];
  driver.pair.send(arpRequest(guest, ip));
  for (;;) {
    const got = nextFrame(driver);
    assert.ok(got, "the kernel answers ARP");
    if (got[12] === 8 && got[13] === 6 && got[21] === 2) return { ip, mac: [...got.slice(22, 28)] };
  }
}

function ping(driver: NetDriver, host: Endpoint, bytes: number): void {
  const payload = Uint8Array.from({ length: bytes }, (_, i) => i * 3);
  driver.pair.send(echoRequest(guest, host, payload));
  for (;;) {
    const got = nextPacket(driver);
    assert.ok(got, "the kernel answers a ping");
    if (got[23] !== 1 || got[34] !== 0) continue;
    assert.deepEqual(got.subarray(42), payload);
    return;
  }
}

describe("the network device at a tap", { skip: skip ?? false }, () => {
  let namespace: Namespace;
  let program: Program;
  before(() => {
    if (skip !== undefined) return;
    namespace = new Namespace();
    namespace.tap("tap0", "10.77.0.1/24", true);
    namespace.ip("link", "set", "tap0", "mtu", "9000");
    program = new Program(
      namespace.command(
        launcher("vhost-user-net"),
        "--tap=tap0",
        "--queue-pairs=2",
        "--socket-path=SOCKET",
      ),
    );
  });
  after(() => {
    program?.[Symbol.dispose]();
    namespace?.[Symbol.dispose]();
  });
  const connect = (options?: NetOptions) => NetDriver.connect(program.socket, options);

  const kinds: readonly [string, NetOptions][] = [
    ["merged buffers", { pairs: 2 }],
    ["merged buffers, offloads", { features: netFeatures | offloads }],
    ["small buffers", { bufferSize: 200, ringSize: 256 }],
    ["a packed ring", { features: netFeatures | mask(RingFeature.RING_PACKED) }],
    [
      "single buffers",
      { features: netFeatures & ~mask(NetFeature.MRG_RXBUF), bufferSize: 10_000, ringSize: 64 },
    ],
    ["a driver from before virtio 1.0", { features: 0n, bufferSize: 10_000, ringSize: 64 }],
  ];
  for (const [name, options] of kinds) {
    it(`the kernel answers ARP and pings: ${name}`, () => {
      using driver = connect(options);
      const host = findHost(driver);
      for (const bytes of [1, 56, 1400, 1600, 8000, 100]) ping(driver, host, bytes);
    });
  }

  it("a frame in more pieces than one call can take is dropped, and the next one is not", () => {
    using driver = connect({ ringSize: 2048 });
    const host = findHost(driver);
    const request = echoRequest(guest, host, new Uint8Array(1200));
    driver.pair.send(request, { pieces: Array(1100).fill(1) });
    driver.pair.send(request, { pieces: Array(900).fill(1) });
    assert.equal(nextPacket(driver)?.[34], 0, "one answer");
    ping(driver, host, 56);
  });

  it("a link that goes down and up again carries on", () => {
    using driver = connect();
    const host = findHost(driver);
    namespace.ip("link", "set", "tap0", "down");
    driver.pair.send(echoRequest(guest, host, new Uint8Array(8)));
    namespace.ip("link", "set", "tap0", "up");
    ping(driver, findHost(driver), 100);
  });

  it("frames wait for a guest without buffers", () => {
    using driver = connect({ buffers: 0 });
    driver.pair.send(arpRequest(guest, [10, 77, 0, 1]));
    assert.equal(driver.pair.receive(100), null);
    driver.pair.fill();
    assert.ok(driver.pair.receive(3000));
    ping(driver, findHost(driver), 100);
  });

  it("an interface that does not fit is refused in one line", () => {
    const args = ["--tap=a-name-that-is-too-long", "--socket-path=/nonexistent/s"];
    const run = spawnSync(launcher("vhost-user-net"), args, { encoding: "utf8" });
    assert.equal(run.status, 1);
    assert.match(run.stderr, /^vhost-user-net: .*too-long.*\n$/);
  });
});
