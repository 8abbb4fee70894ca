/** Checksums and large packets for a guest that leaves both to others: done here, in a loop. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask } from "../../core/features.ts";
import { NetDriver, NetFeature, netFeatures } from "../../frontend/mod.ts";
import { launcher, Program, until } from "../support/program.ts";
import { makeFrame } from "./frames.ts";
import { checksum } from "./packets.ts";

const { CSUM, HOST_TSO4, HOST_TSO6, HOST_USO, HOST_UFO } = NetFeature;
const features = netFeatures | mask(CSUM, HOST_TSO4, HOST_TSO6, HOST_USO, HOST_UFO);
const MSS = 1448;
const TCP = 6;
const UDP = 17;

const be16 = (value: number) => [value >> 8, value & 0xff];

/** A packet with an open checksum: its field has the sum of the pseudo-header, as drivers leave it. */
function packet(v4: boolean, payload: number, protocol = TCP) {
  const udp = protocol === UDP;
  const address = v4 ? 4 : 16;
  const addresses = Array.from({ length: 2 * address }, (_, i) => 10 + i);
  const length = (udp ? 8 : 20) + payload;
  const ip = v4
    ? [0x45, 0, ...be16(20 + length), 0xff, 0xff, 0, 0, 64, protocol, 0, 0, ...addresses]
    : [0x60, 0, 0, 0, ...be16(length), protocol, 64, ...addresses];
  if (v4) ip.splice(10, 2, ...be16(checksum(Uint8Array.from(ip))));
  const pseudo = ~checksum(Uint8Array.of(...addresses, 0, protocol, ...be16(length))) & 0xffff;
  const ports = [1, 2, 3, 4];
  const tcp = [0xff, 0xff, 0xff, 0, 0, 0, 0, 9, 0x50, 0x99, 1, 1, ...be16(pseudo), 0, 0];
  const rest = udp ? [...be16(length), ...be16(pseudo)] : tcp;
  const data = Array.from({ length: payload }, (_, i) => (i * 11) & 0xff);
  const type = v4 ? [8, 0] : [0x86, 0xdd];
  const macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
  const frame = Uint8Array.of(...macs, ...type, ...ip, ...ports, ...rest, ...data);
  return { frame, data, start: 14 + ip.length, addresses };
}

/** The payload of a packet, once everything that is said of it is right. */
function checkPacket(
  frame: Uint8Array,
  v4: boolean,
  protocol = TCP,
): { sequence: number; flags: number; data: Uint8Array } {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const start = v4 ? 34 : 54;
  if (v4) {
    assert.equal(view.getUint16(16), frame.length - 14);
    assert.equal(checksum(frame.subarray(14, 34)), 0, "the header's checksum");
  } else assert.equal(view.getUint16(18), frame.length - 54);
  const addresses = v4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
  const pseudo = [...addresses, 0, protocol, ...be16(frame.length - start)];
  assert.equal(checksum(Uint8Array.of(...pseudo, ...frame.subarray(start))), 0, "the checksum");
  if (protocol === UDP) {
    assert.equal(view.getUint16(start + 4), frame.length - start, "UDP's length");
    return { sequence: 0, flags: 0, data: frame.subarray(start + 8) };
  }
  const data = frame.subarray(start + 20);
  return { sequence: view.getUint32(start + 4), flags: view.getUint8(start + 13), data };
}

describe("a guest that leaves work to others and takes none", () => {
  let program: Program;
  before(() => {
    program = new Program([launcher("vhost-user-net"), "--loopback", "--socket-path=SOCKET"]);
  });
  after(() => program[Symbol.dispose]());

  for (const v4 of [true, false]) {
    const kind = v4 ? "IPv4" : "IPv6";
    it(`gets checksums that are complete: ${kind}`, () => {
      using driver = NetDriver.connect(program.socket, { features });
      for (const payload of [1, 2, 100, 1001]) {
        const { frame, start, data } = packet(v4, payload);
        driver.pair.send(frame, { header: { flags: 1, csumStart: start, csumOffset: 16 } });
        const got = driver.pair.receive()!;
        assert.equal(got.header.flags, 0);
        assert.deepEqual([...checkPacket(got.data, v4).data], data);
      }
    });

    it(`gets large packets in pieces: ${kind}`, () => {
      using driver = NetDriver.connect(program.socket, { features });
      for (const payload of [MSS, MSS + 1, 5 * MSS, 60_000]) {
        const { frame, start, data } = packet(v4, payload);
        const gso = { gsoType: v4 ? 1 : 4, gsoSize: MSS, hdrLen: start + 20 };
        driver.pair.send(frame, { header: { ...gso, flags: 1, csumStart: start, csumOffset: 16 } });
        const all: number[] = [];
        while (all.length < payload) {
          const got = driver.pair.receive()!;
          assert.equal(got.header.flags | got.header.gsoType, 0);
          const piece = checkPacket(got.data, v4);
          assert.equal(piece.sequence, (0xffffff00 + all.length) >>> 0);
          const first = all.length === 0 ? 0x80 : 0;
          all.push(...piece.data);
          assert.equal(piece.flags, 0x10 | first | (all.length === payload ? 0x09 : 0));
          assert.ok(piece.data.length === MSS || all.length === payload);
        }
        assert.deepEqual(all, data);
      }
    });
  }

  for (const v4 of [true, false]) {
    it(`gets large UDP packets in pieces: ${v4 ? "IPv4" : "IPv6"}`, () => {
      using driver = NetDriver.connect(program.socket, { features });
      for (const payload of [MSS, MSS + 1, 5 * MSS, 60_000]) {
        const { frame, start, data } = packet(v4, payload, UDP);
        const gso = { gsoType: 5, gsoSize: MSS, hdrLen: start + 8 };
        driver.pair.send(frame, { header: { ...gso, flags: 1, csumStart: start, csumOffset: 6 } });
        const all: number[] = [];
        while (all.length < payload) {
          const got = driver.pair.receive()!;
          assert.equal(got.header.flags | got.header.gsoType, 0);
          const piece = checkPacket(got.data, v4, UDP);
          all.push(...piece.data);
          assert.ok(piece.data.length === MSS || all.length === payload);
        }
        assert.deepEqual(all, data);
      }
    });
  }

  it("gets as many pieces as it has buffers for", () => {
    using driver = NetDriver.connect(program.socket, { features, ringSize: 16 });
    const { frame, start } = packet(true, 60_000);
    const gso = { gsoType: 1, gsoSize: 1, flags: 1, csumStart: start, csumOffset: 16 };
    driver.pair.send(frame, { header: gso });
    for (let i = 0; i < 16; i++) assert.equal(driver.pair.receive(1000, true)?.data.length, 55);
    assert.equal(driver.pair.receive(100), null);
  });

  it("gets no fragments of UDP packets", () => {
    using own = new Program([launcher("vhost-user-net"), "--loopback", "--socket-path=SOCKET"]);
    using driver = NetDriver.connect(own.socket, { features });
    const { frame, start } = packet(true, 5000, UDP);
    const gso = { gsoType: 3, gsoSize: MSS, flags: 1, csumStart: start, csumOffset: 6 };
    driver.pair.send(frame, { header: gso });
    driver.pair.send(frame.subarray(0, 60));
    assert.equal(driver.pair.receive()?.data.length, 60);
    own.signal("SIGHUP");
    const counters = () => /Frames so far.*/.exec(own.log)?.[0] ?? null;
    assert.match(until(counters, "the counters"), /rxFiltered=1/);
  });

  it("survives whatever packets and their headers say", () => {
    using driver = NetDriver.connect(program.socket, { features, ringSize: 256 });
    let state = 4711;
    const next = (limit: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % limit;
    };
    for (let i = 0; i < 1500; i++) {
      const { frame, start } = packet(next(2) === 0, 1 + next(3000), [TCP, UDP][next(2)]);
      for (let flips = next(4); flips > 0; flips--) frame[12 + next(50)]! ^= 1 << next(8);
      const header = {
        flags: 1,
        gsoType: [0, 1, 4, 5, 3, 0x81][next(6)]!,
        gsoSize: [1, 2, MSS, 1 + next(65_535)][next(4)]!,
        csumStart: next(4) === 0 ? next(frame.length + 8) : start,
        csumOffset: [6, 16, next(200)][next(3)]!,
      };
      const length = next(3) === 0 ? 14 + next(frame.length - 14) : frame.length;
      driver.pair.send(frame.subarray(0, length), { header });
      for (let got = driver.pair.receive(0); got !== null; got = driver.pair.receive(0)) {
        assert.equal(got.header.flags | got.header.gsoType, 0);
        assert.ok(got.data.length <= length);
      }
    }
    driver.pair.send(makeFrame(60));
    assert.ok(driver.pair.receive());
  });

  it("gets nothing of packets that make no sense", () => {
    using driver = NetDriver.connect(program.socket, { features });
    const { frame } = packet(true, 3000);
    const gso = { flags: 1, gsoType: 1, gsoSize: MSS, csumOffset: 16 };
    for (const csumStart of [0, 14, 33, 2990, 3040]) {
      driver.pair.send(frame, { header: { ...gso, csumStart } });
    }
    driver.pair.send(frame, { header: { ...gso, gsoType: 4, csumStart: 54 } });
    // TCP that is said to be UDP.
    driver.pair.send(frame, { header: { ...gso, gsoType: 5, csumStart: 34, csumOffset: 6 } });
    driver.pair.send(frame.subarray(0, 60));
    assert.equal(driver.pair.receive()?.data.length, 60);
  });
});
