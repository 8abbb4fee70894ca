/** Headers and commands that are wrong, and what a driver may ask on the control queue. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { has, mask } from "../../core/features.ts";
import {
  checkState,
  type FrameHeader,
  NetDriver,
  NetFeature,
  netFeatures,
  startStateTransfer,
} from "../../frontend/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { launcher, Program, until } from "../support/program.ts";
import { broadcast, makeFrame } from "./frames.ts";

const { CSUM, GUEST_CSUM, HOST_TSO4, GUEST_TSO4, HOST_ECN, GUEST_ECN } = NetFeature;
const offloads = netFeatures | mask(CSUM, GUEST_CSUM, HOST_TSO4, GUEST_TSO4);
const control =
  netFeatures |
  mask(
    NetFeature.CTRL_VQ,
    NetFeature.CTRL_RX,
    NetFeature.CTRL_RX_EXTRA,
    NetFeature.CTRL_VLAN,
    NetFeature.CTRL_MAC_ADDR,
    NetFeature.CTRL_GUEST_OFFLOADS,
    NetFeature.GUEST_ANNOUNCE,
  );

describe("headers of a network driver", () => {
  let program: Program;
  before(() => {
    const command = [launcher("vhost-user-net"), "--loopback", "--queue-pairs=2"];
    program = new Program([...command, "--socket-path=SOCKET"]);
  });
  after(() => program[Symbol.dispose]());

  const tso: Partial<FrameHeader> = {
    flags: 1,
    gsoType: 1,
    gsoSize: 1448,
    hdrLen: 54,
    csumStart: 34,
    csumOffset: 16,
  };
  const cases: readonly [string, Partial<FrameHeader>, bigint, boolean][] = [
    ["nothing", {}, netFeatures, true],
    ["a checksum", { flags: 1, csumStart: 34, csumOffset: 16 }, offloads, true],
    ["a checksum at the end", { flags: 1, csumStart: 1990, csumOffset: 8 }, offloads, true],
    ["a checksum behind the end", { flags: 1, csumStart: 1990, csumOffset: 9 }, offloads, false],
    ["a checksum from far away", { flags: 1, csumStart: 65_535, csumOffset: 1 }, offloads, false],
    ["offsets that overflow", { flags: 1, csumStart: 34, csumOffset: 65_535 }, offloads, false],
    ["a checksum without CSUM", { flags: 1, csumStart: 34, csumOffset: 16 }, netFeatures, false],
    ["a large packet", tso, offloads, true],
    ["pieces of no size", { ...tso, gsoSize: 0 }, offloads, false],
    ["an unknown kind", { ...tso, gsoType: 2 }, offloads, false],
    ["another unknown kind", { ...tso, gsoType: 0x7f }, offloads, false],
    ["ECN alone", { ...tso, gsoType: 0x80 }, offloads, false],
    ["ECN that was not accepted", { ...tso, gsoType: 0x81 }, offloads, false],
    ["ECN", { ...tso, gsoType: 0x81 }, offloads | mask(HOST_ECN, GUEST_ECN), true],
    ["a large packet without checksum", { ...tso, flags: 0 }, offloads, false],
    ["IPv6 that was not accepted", { ...tso, gsoType: 4 }, offloads, false],
    ["headers longer than the frame", { hdrLen: 2001 }, netFeatures, false],
    ["headers as long as the frame", { hdrLen: 2000 }, netFeatures, true],
    ["unknown flags", { flags: 0xfe }, netFeatures, true],
  ];
  for (const [name, header, features, passes] of cases) {
    it(`${passes ? "carries" : "drops"} a frame whose header asks for ${name}`, () => {
      using driver = NetDriver.connect(program.socket, { features });
      const frame = makeFrame(2000, 3);
      driver.pair.send(frame, { header });
      driver.pair.send(makeFrame(60));
      if (passes) {
        const got = driver.pair.receive()!;
        assert.deepEqual(got.data, frame);
        assert.equal(got.header.gsoType, header.gsoType ?? 0);
        assert.equal(got.header.flags, (header.flags ?? 0) & 1);
        if (got.header.flags === 1) {
          assert.equal(got.header.csumStart, header.csumStart);
          assert.equal(got.header.csumOffset, header.csumOffset);
        }
      }
      assert.equal(driver.pair.receive()?.data.length, 60);
    });
  }

  it("drops chains that are too short for a frame, and frames that are too long", () => {
    using driver = NetDriver.connect(program.socket, { maxFrame: 70_000 });
    const { pair } = driver;
    for (const length of [0, 1, 13, 65_554, 70_000]) {
      pair.send(new Uint8Array(length));
      pair.send(new Uint8Array(length), { pieces: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] });
    }
    pair.tx.ring.clear();
    pair.tx.ring.push(driver.frontend.memory.allocate(16), 5, false);
    assert.ok(pair.tx.ring.add(63) >= 0);
    pair.tx.publish();
    pair.send(makeFrame(14));
    assert.equal(pair.receive()?.data.length, 14);
  });

  it("carries a frame however it is cut, its header too", () => {
    using driver = NetDriver.connect(program.socket, { features: offloads, ringSize: 512 });
    const { pair } = driver;
    const header = { flags: 1, csumStart: 34, csumOffset: 16 };
    for (const length of [14, 60, 490]) {
      const frame = makeFrame(length, length);
      for (const pieces of [[12], [1, 11], [13], Array(12).fill(1), Array(500).fill(1)]) {
        pair.send(frame, { pieces });
        assert.deepEqual(pair.receive()?.data, frame, `${length} bytes in ${pieces.length}`);
        if (length < 60) continue;
        pair.send(frame, { pieces, header });
        const got = pair.receive()!;
        assert.deepEqual([got.header.csumStart, got.header.csumOffset], [34, 16]);
        assert.deepEqual(got.data, frame);
      }
    }
  });

  it("drops frames for receive buffers that cannot be written, and goes on sending", () => {
    for (const features of [netFeatures, netFeatures & ~mask(NetFeature.MRG_RXBUF)]) {
      using driver = NetDriver.connect(program.socket, { features, buffers: 0, ringSize: 16 });
      const { rx } = driver.pair;
      const at = driver.frontend.memory.allocate(2048);
      for (let i = 0; i < 8; i++) {
        rx.ring.clear();
        rx.ring.push(at, 2048, false);
        assert.ok(rx.ring.add(i) >= 0);
      }
      rx.publish();
      for (let i = 0; i < 40; i++) driver.pair.send(makeFrame(60, i));
      driver.frontend.reconnect();
    }
    using driver = NetDriver.connect(program.socket);
    driver.pair.send(makeFrame(60));
    assert.ok(driver.pair.receive());
  });

  it("survives any header", () => {
    const all = netFeatures | mask(0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 54, 55, 56);
    using driver = NetDriver.connect(program.socket, { features: all });
    let state = 12345;
    const next = (limit: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % limit;
    };
    const field = () => (next(3) === 0 ? next(65_536) : next(200));
    for (let i = 0; i < 3000; i++) {
      const length = 14 + next(150);
      driver.pair.send(makeFrame(length, i), {
        header: {
          flags: next(8),
          gsoType: [0, 1, 3, 4, 5, 0x81, next(256)][next(7)]!,
          hdrLen: field(),
          gsoSize: field(),
          csumStart: field(),
          csumOffset: field(),
        },
      });
      for (let got = driver.pair.receive(0); got !== null; got = driver.pair.receive(0)) {
        const { flags, csumStart, csumOffset, gsoType, gsoSize } = got.header;
        if (flags === 1) assert.ok(csumStart + csumOffset + 2 <= got.data.length);
        if (gsoType !== 0) assert.ok(flags === 1 && gsoSize > 0);
      }
    }
  });

  it("drops frames for buffers that are too small for a header, without end or spin", () => {
    using driver = NetDriver.connect(program.socket, { bufferSize: 8, ringSize: 16 });
    driver.pair.send(makeFrame(60));
    assert.equal(driver.pair.rx.ring.ready, false);
  });

  it("serves the control queue", () => {
    using driver = NetDriver.connect(program.socket, {
      features: control,
      maxPairs: 2,
      controlSize: 16,
    });
    const own = [2, 1, 1, 1, 1, 1];
    const { pair } = driver;
    const arrives = (to: readonly number[], tag: readonly number[] = []) => {
      const frame = makeFrame(60, 1, to);
      frame.set(tag, 12);
      pair.send(frame);
      return pair.receive(30) !== null;
    };
    assert.ok(arrives([2, 9, 9, 9, 9, 9]), "all frames at first");
    assert.ok(driver.command(1, 1, ...own));
    assert.deepEqual([...driver.config().mac], own);
    assert.ok(driver.command(0, 0, 0), "no longer all");
    assert.ok(!arrives([2, 9, 9, 9, 9, 9]));
    assert.ok(arrives(own));
    assert.ok(arrives(broadcast));
    assert.ok(!arrives([1, 0, 0, 0, 0, 5]));
    assert.ok(driver.command(1, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0, 0, 0, 5));
    assert.ok(arrives([2, 9, 9, 9, 9, 9]));
    assert.ok(arrives([1, 0, 0, 0, 0, 5]));
    assert.ok(!arrives(own, [0x81, 0, 0, 100]));
    assert.ok(driver.command(2, 0, 100, 0));
    assert.ok(arrives(own, [0x81, 0, 0x20, 100]));
    assert.ok(driver.command(0, 5, 1));
    assert.ok(!arrives(broadcast));
    assert.ok(driver.command(4, 0, 2, 0));
    // What makes no sense changes nothing.
    const wrong = [
      [4, 0, 0, 0],
      [4, 0, 3, 0],
      [4, 0, 1],
      [0, 0],
      [0, 9, 1],
      [1, 1, 1, 1, 1, 1, 1, 1],
    ];
    wrong.push([1, 0, 255, 255, 255, 255], [1, 0, 2, 0, 0, 0, 1, 2], [2, 0, 0, 16], [2, 2, 0, 0]);
    wrong.push([3, 1], [5, 0, 2, 0, 0, 0, 0, 0, 0, 0], [6, 0, 0], [99, 99], [1]);
    for (const [kind, ...rest] of wrong) {
      const [command = 0, ...data] = rest;
      assert.equal(driver.command(kind!, command, ...data), false, `${kind} ${rest}`);
    }
    assert.ok(arrives(own));
  });

  it("gives frames to the pairs that the driver says it uses", () => {
    using driver = NetDriver.connect(program.socket, {
      features: control,
      pairs: 2,
      controlSize: 16,
    });
    const [first, second] = driver.pairs;
    const cameBy = () => {
      second!.send(makeFrame(60));
      return [first!, second!].findIndex((pair) => pair.receive(50) !== null);
    };
    assert.equal(cameBy(), 0, "the first one to begin with");
    assert.ok(driver.command(4, 0, 2, 0));
    assert.equal(cameBy(), 1);
    // It goes on that way after a pause.
    driver.frontend.start(driver.frontend.stop());
    assert.equal(cameBy(), 1);
    assert.ok(driver.command(4, 0, 1, 0));
    assert.equal(cameBy(), 0);
    assert.ok(driver.command(4, 0, 2, 0));
    assert.equal(cameBy(), 1);
  });

  it("uses all pairs of a driver that does not say", () => {
    using driver = NetDriver.connect(program.socket, { pairs: 2 });
    driver.pairs[1]!.send(makeFrame(60));
    assert.ok(driver.pairs[1]!.receive());
  });

  it("takes over the state of another program", () => {
    using from = NetDriver.connect(program.socket, {
      features: control,
      maxPairs: 2,
      controlSize: 16,
    });
    assert.ok(from.command(1, 1, 2, 1, 1, 1, 1, 7));
    assert.ok(from.command(0, 0, 0));
    const bases = from.frontend.stop();
    const { reader, writer } = createPipe();
    startStateTransfer(from.frontend.connection, "save", writer);
    assert.equal(checkState(from.frontend.connection), 0n);
    writer.close();
    startStateTransfer(from.frontend.connection, "load", reader);
    assert.equal(checkState(from.frontend.connection), 0n);
    reader.close();
    from.frontend.start(bases);
    assert.ok(has(from.frontend.features, NetFeature.GUEST_ANNOUNCE));
    until(() => (from.config().status === 3 ? true : null), "the wish for an announcement");
    assert.ok(from.command(3, 0));
    assert.equal(from.config().status, 1);
  });
});

describe("the options of the network device", () => {
  const refuse = (pattern: RegExp, ...args: readonly string[]) => {
    const all = ["--socket-path=/nonexistent/s", ...args];
    const run = spawnSync(launcher("vhost-user-net"), all, { encoding: "utf8" });
    assert.equal(run.status, 1, run.stderr);
    assert.match(run.stderr, pattern);
  };
  it("name one host side that makes sense", () => {
    refuse(/give one of --tap/);
    refuse(/--loopback and --null together/, "--null", "--loopback");
    refuse(/not the address of one interface/, "--null", "--mac=01:00:00:00:00:01");
    refuse(/write it as 52:54/, "--null", "--mac=x");
    refuse(/that takes --switch/, "--null", "--socket-path=/nonexistent/t");
    refuse(/--vlan/, "--switch", "--vlan=1", "--vlan=2");
    refuse(/no such|not found|cannot connect/i, "--stream=/nonexistent/x");
    refuse(/no tap/, "--tap-fd=99");
  });
});
