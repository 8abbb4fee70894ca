/** Checksums and large packets for a guest that leaves both to others: done here, in a loop. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask } from "../../core/features.ts";
import { NetDriver, NetFeature, netFeatures } from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";
import { checksum } from "./packets.ts";

const features = netFeatures | mask(NetFeature.CSUM, NetFeature.HOST_TSO4, NetFeature.HOST_TSO6);
const MSS = 1448;

const be16 = (value: number) => [value >> 8, value & 0xff];

/** A packet with an open checksum: its field has the sum of the pseudo-header, as drivers leave it. */
function tcpPacket(v4: boolean, payload: number) {
  const address = v4 ? 4 : 16;
  const addresses = Array.from({ length: 2 * address }, (_, i) => 10 + i);
  const length = 20 + payload;
  const ip = v4
    ? [0x45, 0, ...be16(20 + length), 0xff, 0xff, 0, 0, 64, 6, 0, 0, ...addresses]
    : [0x60, 0, 0, 0, ...be16(length), 6, 64, ...addresses];
  if (v4) ip.splice(10, 2, ...be16(checksum(Uint8Array.from(ip))));
  const pseudo = ~checksum(Uint8Array.of(...addresses, 0, 6, ...be16(length))) & 0xffff;
  const tcp = [
    1,
    2,
    3,
    4,
    0xff,
    0xff,
    0xff,
    0,
    0,
    0,
    0,
    9,
    0x50,
    0x99,
    1,
    1,
    ...be16(pseudo),
    0,
    0,
  ];
  const data = Array.from({ length: payload }, (_, i) => (i * 11) & 0xff);
  const type = v4 ? [8, 0] : [0x86, 0xdd];
  const macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
  const frame = Uint8Array.of(...macs, ...type, ...ip, ...tcp, ...data);
  return { frame, data, start: 14 + ip.length, addresses };
}

/** The payload of a packet, once everything that is said of it is right. */
function checkPacket(
  frame: Uint8Array,
  v4: boolean,
): { sequence: number; flags: number; data: Uint8Array } {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const tcp = v4 ? 34 : 54;
  if (v4) {
    assert.equal(view.getUint16(16), frame.length - 14);
    assert.equal(checksum(frame.subarray(14, 34)), 0, "the header's checksum");
  } else assert.equal(view.getUint16(18), frame.length - 54);
  const addresses = v4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
  const pseudo = [...addresses, 0, 6, ...be16(frame.length - tcp)];
  assert.equal(checksum(Uint8Array.of(...pseudo, ...frame.subarray(tcp))), 0, "TCP's checksum");
  const data = frame.subarray(tcp + 20);
  return { sequence: view.getUint32(tcp + 4), flags: view.getUint8(tcp + 13), data };
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
        const { frame, start, data } = tcpPacket(v4, payload);
        driver.pair.send(frame, { header: { flags: 1, csumStart: start, csumOffset: 16 } });
        const got = driver.pair.receive()!;
        assert.equal(got.header.flags, 0);
        assert.deepEqual([...checkPacket(got.data, v4).data], data);
      }
    });

    it(`gets large packets in pieces: ${kind}`, () => {
      using driver = NetDriver.connect(program.socket, { features });
      for (const payload of [MSS, MSS + 1, 5 * MSS, 60_000]) {
        const { frame, start, data } = tcpPacket(v4, payload);
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

  it("gets nothing of packets that make no sense", () => {
    using driver = NetDriver.connect(program.socket, { features });
    const { frame } = tcpPacket(true, 3000);
    const gso = { flags: 1, gsoType: 1, gsoSize: MSS, csumOffset: 16 };
    for (const csumStart of [0, 14, 33, 2990, 3040]) {
      driver.pair.send(frame, { header: { ...gso, csumStart } });
    }
    driver.pair.send(frame, { header: { ...gso, gsoType: 4, csumStart: 54 } });
    driver.pair.send(frame.subarray(0, 60));
    assert.equal(driver.pair.receive()?.data.length, 60);
  });
});
