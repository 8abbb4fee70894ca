/** Further checks of network devices: headers and frames that are wrong, config space, the control queue. */
import { mask } from "../../../core/features.ts";
import { ConfigHeader } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { NetConfigSpace, NetFeature, NetHeader } from "../../drivers/net-wire.ts";
import type { Frontend } from "../../frontend.ts";
import { type Check, expectEqual, fail, notOffered } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { config, M, tell, u64 } from "../wire.ts";

const TRANSMIT = "virtio 1.3 5.1.6.2";
const RECEIVE = "virtio 1.3 5.1.6.3";
const CONFIG = "virtio 1.3 5.1.4";
const CONTROL = "virtio 1.3 5.1.6.5";

const { CTRL_VQ, MQ, STATUS, CTRL_MAC_ADDR } = NetFeature;
const OK = 0;
const ERROR = 1;
const NET_HEADER = NetHeader.size;
/** A frame that nobody can send: longer than any packet. */
const TOO_LONG = 70_000;

/** The exercise's frame, cut or filled to `size` bytes, behind a header. */
function frame(lane: Lane, size: number, header: Parameters<typeof NetHeader.encode>[0] = {}) {
  const out = new Uint8Array(NET_HEADER + size);
  out.set(lane.exercise.request(0).out.subarray(0, out.length));
  out.set(NetHeader.encode(header));
  return out;
}

function readConfig(frontend: Frontend) {
  const { payload } = frontend.connection.request(M.GET_CONFIG, config(0, NetConfigSpace.size));
  return NetConfigSpace.decode(payload.subarray(ConfigHeader.size));
}

/** A lane on the control queue of a driver that accepts these features, and the pairs there are. */
function control(play: Play, ...features: readonly number[]) {
  play.needsFeature(CTRL_VQ, ...features);
  // QEMU has a control queue of its own in any case, so that some offer the feature for its sake.
  const { queues } = play.offer;
  if (queues === null || queues % 2 === 0) notOffered("a control queue: GET_QUEUE_NUM is even");
  const frontend = play.guest({ features: play.wantedFeatures() | mask(CTRL_VQ, ...features) });
  const pairs = (queues - 1) / 2;
  const queue = features.includes(MQ) ? queues - 1 : 2;
  const command = Uint8Array.of(0, 0, 1);
  const request = () => ({ out: command, room: 1, written: 1 });
  const lane = play.further(frontend, { ...play.exercise, vrings: queue + 1, queue, request });
  lane.driverReady();
  return { lane, pairs };
}

function expectAnswer(lane: Lane, wanted: number, ...command: readonly number[]): void {
  lane.exchange(Uint8Array.from(command), 1);
  expectEqual("a used length of", lane.written, 1);
  expectEqual(`for the command ${command.slice(0, 4)} the answer`, lane.answer(1)[0], wanted);
}

/** Headers that ask for what was not accepted, or make no sense. */
const wrongHeaders: readonly Parameters<typeof NetHeader.encode>[0][] = [
  { flags: 1, csumStart: 34, csumOffset: 16 },
  { flags: 1, csumStart: 65_535, csumOffset: 65_535 },
  { flags: 0xff },
  { gsoType: 1, gsoSize: 0 },
  { flags: 1, gsoType: 1, gsoSize: 1, hdrLen: 54, csumStart: 34, csumOffset: 16 },
  { flags: 1, gsoType: 4, gsoSize: 65_535, csumStart: 0, csumOffset: 0 },
  { gsoType: 0x80 },
  { gsoType: 0x7f, gsoSize: 9, hdrLen: 65_535 },
  { hdrLen: 65_535 },
  { buffers: 65_535 },
];

const frames: readonly Check[] = [
  {
    id: "net.N1-pieces",
    title: "A frame is taken however its header and itself are cut into descriptors",
    source: TRANSMIT,
    run(play) {
      const lane = play.running();
      const out = frame(lane, 48);
      for (let pieces = 1; pieces <= out.length; pieces++) {
        lane.exchange(out, 0, { pieces });
        expectEqual("a used length of", lane.written, 0);
      }
    },
  },
  {
    id: "net.N1-long",
    title: "A frame of 70000 bytes is dropped, and those that follow are taken",
    source: TRANSMIT,
    run(play) {
      const lane = play.running();
      const requestAt = lane.frontend.memory.allocate(NET_HEADER + TOO_LONG);
      for (const pieces of [1, 40]) {
        lane.exchange(frame(lane, TOO_LONG), 0, { requestAt, pieces });
        lane.run(4);
      }
    },
  },
  {
    id: "net.N2-headers",
    title: "A header that is wrong, or asks for what was not negotiated, spoils its frame only",
    source: TRANSMIT,
    run(play) {
      const lane = play.running();
      for (const header of wrongHeaders) {
        lane.exchange(frame(lane, 60, header), 0);
        lane.exchange(frame(lane, 14, header), 0);
        lane.run(2);
      }
    },
  },
  {
    id: "net.N3-receive",
    title:
      "Receive buffers that are too short, or not writable, do not keep frames from being sent",
    source: RECEIVE,
    run(play) {
      for (const [size, writable] of [
        [1, true],
        [8, true],
        [2048, false],
      ] as const) {
        const lane = play.running();
        const [receive] = lane.vrings;
        const at = lane.frontend.memory.allocate(2048);
        for (let i = 0; i < 4; i++) {
          receive!.ring.clear();
          receive!.ring.push(at, size, writable);
          receive!.ring.add(i);
        }
        receive!.publish();
        lane.run(20);
        play.expectAlive();
      }
    },
  },
];

const messages: readonly Check[] = [
  {
    id: "net.N4-mtu",
    title: "An MTU below 68 or above 65535 is refused, and 1500 is not",
    source: "vhost-user: VHOST_USER_NET_SET_MTU",
    run(play) {
      play.needsProtocol(ProtocolFeature.NET_MTU, ProtocolFeature.REPLY_ACK);
      for (const [bytes, wanted] of [
        [0, "refused"],
        [67, "refused"],
        [65_536, "refused"],
        [2n ** 63n, "refused"],
        [1500, "ok"],
      ] as const) {
        const wish = mask(ProtocolFeature.NET_MTU, ProtocolFeature.REPLY_ACK);
        const answer = tell(play.greet(wish), M.NET_SET_MTU, u64(bytes));
        play.close();
        const refused = answer === "refused" || answer === "closed";
        expectEqual(`an MTU of ${bytes} is`, refused ? "refused" : answer, wanted);
      }
    },
  },
  {
    id: "net.rarp",
    title: "A running device announces its interface by RARP, with whatever address",
    source: "vhost-user: VHOST_USER_SEND_RARP",
    run(play) {
      play.needsProtocol(ProtocolFeature.RARP);
      const lane = play.running({
        protocol: mask(ProtocolFeature.RARP, ProtocolFeature.REPLY_ACK),
      });
      for (const mac of [0x563412005452n, 0n, 2n ** 48n - 1n]) {
        const answer = tell(lane.connection, M.SEND_RARP, u64(mac));
        if (answer === "closed") fail("an announcement", "the connection is closed");
        lane.run(2);
      }
    },
  },
];

const space: readonly Check[] = [
  {
    id: "net.status",
    title: "The status in config space has no unknown bits, and asks for no announcement at first",
    source: CONFIG,
    run(play) {
      play.needsFeature(STATUS);
      play.needsProtocol(ProtocolFeature.CONFIG);
      const { status } = readConfig(play.running().frontend);
      if (status > 1) fail("a status of 0 or 1", `${status}`);
    },
  },
  {
    id: "net.max-pairs",
    title: "There are from 1 to 0x8000 queue pairs, and GET_QUEUE_NUM counts their queues",
    source: CONFIG,
    run(play) {
      play.needsFeature(MQ);
      play.needsProtocol(ProtocolFeature.CONFIG, ProtocolFeature.MQ);
      const { maxPairs } = readConfig(play.running().frontend);
      if (maxPairs < 1 || maxPairs > 0x8000) fail("1 to 0x8000 pairs", `${maxPairs}`);
      const { queues } = play.offer;
      if (queues !== null && queues >> 1 !== maxPairs) {
        fail(`${maxPairs * 2} queues, and perhaps one for control`, `${queues}`);
      }
    },
  },
];

const commands: readonly Check[] = [
  {
    id: "net.control-unknown",
    title: "Commands that nobody knows, or that are too short, are answered by an error",
    source: CONTROL,
    run(play) {
      const { lane } = control(play);
      for (const command of [[99, 0], [0, 99, 1], [255, 255], [1, 0, 255, 255, 255, 255], [0]]) {
        expectAnswer(lane, ERROR, ...command);
      }
    },
  },
  {
    id: "net.N5-pairs",
    title: "A driver can use 1 pair up to all of them, not 0 and not more",
    source: `${CONTROL}.5`,
    run(play) {
      const { lane, pairs } = control(play, MQ);
      const set = (count: number) => [4, 0, count & 0xff, count >> 8];
      expectAnswer(lane, OK, ...set(pairs));
      for (const wrong of [0, pairs + 1, 0x8001, 0xffff]) expectAnswer(lane, ERROR, ...set(wrong));
      expectAnswer(lane, ERROR, 4, 0, 1);
      expectAnswer(lane, OK, ...set(1));
    },
  },
  {
    id: "net.control-mac",
    title: "The address that a driver sets is in config space; one that is cut off is refused",
    source: `${CONTROL}.2`,
    run(play) {
      play.needsProtocol(ProtocolFeature.CONFIG);
      const { lane } = control(play, CTRL_MAC_ADDR);
      const own = [2, 0, 0, 0x12, 0x34, 0x56];
      expectAnswer(lane, OK, 1, 1, ...own);
      expectAnswer(lane, ERROR, 1, 1, ...own.slice(1));
      const { mac } = readConfig(lane.frontend);
      expectEqual("an address of", [...mac].join(":"), own.join(":"));
    },
  },
];

/** More checks of the group `net`. */
export const net: readonly Check[] = [...frames, ...messages, ...space, ...commands];
