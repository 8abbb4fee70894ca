/** Features, protocol features and ownership. */
import {
  bitsOf,
  describeBits,
  has,
  mask,
  RingFeature,
  VhostFeature,
} from "../../../core/features.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import { askU64, expectDenied, expectTaken, M, tell, u64 } from "../wire.ts";

const P = ProtocolFeature;
const FEATURES = "vhost-user: Communication";
const PROTOCOL = "vhost-user: Protocol features";

/** What a protocol feature is of no use without. */
const dependencies: readonly (readonly [feature: number, ...needs: number[]])[] = [
  [P.INBAND_NOTIFICATIONS, P.BACKEND_REQ, P.REPLY_ACK],
  [P.GET_VRING_BASE_INFLIGHT, P.INFLIGHT_SHMFD],
  [P.GET_VRING_BASE_SKIP_DRAIN, P.GET_VRING_BASE_INFLIGHT, P.INFLIGHT_SHMFD],
];

const protocolNames = (bits: bigint): string => describeBits(bits, ProtocolFeature);

export const negotiation: readonly Check[] = [
  {
    id: "negotiation.features",
    title: "GET_FEATURES is answered first of all, and the same each time",
    source: FEATURES,
    run(play) {
      const connection = play.connect();
      const first = askU64(connection, M.GET_FEATURES);
      connection.command(M.SET_OWNER);
      const second = askU64(connection, M.GET_FEATURES);
      if (first !== second) {
        fail(`0x${first.toString(16)} again`, `0x${second.toString(16)} after SET_OWNER`);
      }
    },
  },
  {
    id: "negotiation.version-1",
    title: "VIRTIO_F_VERSION_1 is offered",
    source: "virtio 1.3 6.1",
    run(play) {
      if (!has(play.offer.features, RingFeature.VERSION_1)) {
        fail("bit 32 among the features", `0x${play.offer.features.toString(16)}`);
      }
    },
  },
  {
    id: "negotiation.protocol-before-features",
    title: "GET_ and SET_PROTOCOL_FEATURES work before SET_FEATURES",
    source: PROTOCOL,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const connection = play.connect();
      const offered = askU64(connection, M.GET_PROTOCOL_FEATURES);
      connection.send(M.SET_PROTOCOL_FEATURES, u64(offered & mask(P.MQ, P.REPLY_ACK)));
      askU64(connection, M.GET_FEATURES);
    },
  },
  {
    id: "negotiation.protocol-without-ack",
    title: "Bit 30 need not be accepted by SET_FEATURES for protocol features to work",
    source: PROTOCOL,
    run(play) {
      play.needsProtocol(P.MQ);
      const connection = play.connect();
      const features = askU64(connection, M.GET_FEATURES);
      connection.send(M.SET_OWNER);
      connection.send(M.SET_FEATURES, u64(features & mask(RingFeature.VERSION_1)));
      connection.send(M.SET_PROTOCOL_FEATURES, u64(mask(P.MQ)));
      if (askU64(connection, M.GET_QUEUE_NUM) < 1n) fail("at least one queue", "none");
    },
  },
  {
    id: "negotiation.dependencies",
    title: "What is offered comes with what it needs",
    source: PROTOCOL,
    run({ offer }) {
      for (const [feature, ...needs] of dependencies) {
        const missing = needs.filter((need) => !has(offer.protocol, need));
        if (has(offer.protocol, feature) && missing.length > 0) {
          fail(`${protocolNames(mask(...missing))} too`, protocolNames(mask(feature)));
        }
      }
      if (has(offer.features, RingFeature.ACCESS_PLATFORM)) {
        const missing = mask(P.BACKEND_REQ, P.REPLY_ACK) & ~offer.protocol;
        if (missing !== 0n) fail(`${protocolNames(missing)} too`, "ACCESS_PLATFORM");
      }
    },
  },
  {
    id: "negotiation.each-bit",
    title: "Each offered protocol feature is accepted when it comes with what it needs",
    source: PROTOCOL,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      for (const bit of bitsOf(play.offer.protocol)) {
        const needs = dependencies.find(([feature]) => feature === bit)?.slice(1) ?? [];
        // Where bit 18 is STANDALONE, a draft's, it needs these.
        const draft = bit === P.SHARED_OBJECT && play.offer.specs !== null;
        const more = draft ? play.offer.protocol & mask(P.STATUS, P.CONFIG) : 0n;
        const wanted = mask(bit, ...needs) | more;
        const connection = play.connect();
        askU64(connection, M.GET_FEATURES);
        connection.send(M.SET_PROTOCOL_FEATURES, u64(wanted));
        if (tell(connection, M.SET_OWNER) === "closed") {
          fail("the connection to go on", `it ends at ${protocolNames(wanted)}`);
        }
        play.close();
      }
    },
  },
  {
    id: "negotiation.all-bits",
    title: "All offered protocol features are accepted together",
    source: PROTOCOL,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      // QEMU accepts what it does not know as well, but never both of these.
      const both = mask(P.PAGEFAULT, P.CONFIGURE_MEM_SLOTS);
      const all = play.offer.protocol;
      const connection = play.greet((all & both) === both ? all & ~mask(P.PAGEFAULT) : all);
      askU64(connection, M.GET_FEATURES);
    },
  },
  {
    id: "negotiation.queue-count",
    title: "GET_QUEUE_NUM names at least one queue",
    source: "vhost-user: Multiple queue support",
    run(play) {
      play.needsProtocol(P.MQ);
      const { queues } = play.offer;
      if (queues === null || queues < 1 || queues > 65536) fail("1 to 65536", `${queues}`);
    },
  },
  {
    id: "negotiation.set-features",
    title: "SET_FEATURES with offered bits is accepted, several times as well",
    source: "vhost-user: SET_FEATURES",
    run(play) {
      const connection = play.greet();
      const own = play.offer.features & mask(VhostFeature.PROTOCOL_FEATURES);
      const basic = (play.offer.features & mask(RingFeature.VERSION_1)) | own;
      for (const value of [basic, play.offer.features & (play.wantedFeatures() | own), basic]) {
        expectTaken(connection, `SET_FEATURES 0x${value.toString(16)}`, M.SET_FEATURES, u64(value));
      }
    },
  },
  {
    id: "negotiation.ack-zero",
    title: "Success is acknowledged with 0 when REPLY_ACK is negotiated",
    source: "vhost-user: REPLY_ACK",
    run(play) {
      play.needsProtocol(P.REPLY_ACK);
      const connection = play.connect();
      askU64(connection, M.GET_FEATURES);
      connection.send(M.SET_PROTOCOL_FEATURES, u64(mask(P.REPLY_ACK)));
      expectEqual("an acknowledgement of", connection.acknowledge(M.SET_OWNER), 0n);
    },
  },
  {
    id: "negotiation.F13-unoffered-protocol",
    title: "SET_PROTOCOL_FEATURES with a bit that was not offered is refused",
    source: PROTOCOL,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const free = [40, 62].find((bit) => !has(play.offer.protocol, bit))!;
      const connection = play.greet();
      const kept = connection.acknowledged ? mask(P.REPLY_ACK) : 0n;
      expectDenied(connection, `bit ${free}`, M.SET_PROTOCOL_FEATURES, u64(kept | mask(free)));
      play.expectAlive();
    },
  },
  {
    id: "negotiation.F13-dependencies",
    title: "A protocol feature without what it needs is refused",
    source: PROTOCOL,
    run(play) {
      const row = dependencies.find(([feature]) => has(play.offer.protocol, feature));
      if (row === undefined) play.needsProtocol(P.INBAND_NOTIFICATIONS);
      const connection = play.greet();
      const alone = mask(row![0]!);
      expectDenied(connection, protocolNames(alone), M.SET_PROTOCOL_FEATURES, u64(alone));
      play.expectAlive();
    },
  },
  {
    id: "negotiation.F14-unoffered-features",
    title: "SET_FEATURES with a bit that was not offered is refused",
    source: "virtio 1.3 2.2.1",
    run(play) {
      const free = [63, 50, 45, 41].find((bit) => !has(play.offer.features, bit))!;
      const connection = play.greet();
      const own = play.offer.features & mask(VhostFeature.PROTOCOL_FEATURES);
      expectDenied(connection, `bit ${free}`, M.SET_FEATURES, u64(own | mask(free)));
      play.expectAlive();
    },
  },
];
