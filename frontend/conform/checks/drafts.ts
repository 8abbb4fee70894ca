/** Proposals that never became part of vhost-user, where a back-end serves one. */
import { has } from "../../../core/features.ts";
import { ConfigHeader } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { type Check, expectEqual, fail, notOffered } from "../check.ts";
import type { Play } from "../play.ts";
import { askSpecs, awaitAnnouncement, type Specs, specsProtocol } from "../specs.ts";
import { ask, askU64, config, M } from "../wire.ts";

const STANDALONE = "vhost-user: draft, GET_BACKEND_SPECS";

function specsOf(play: Play): Specs {
  return play.offer.specs ?? notOffered("GET_BACKEND_SPECS");
}

export const draftChecks: readonly Check[] = [
  {
    id: "drafts.specs",
    title: "GET_BACKEND_SPECS tells queues that there can be, and stays the same",
    source: STANDALONE,
    run(play) {
      const { minQueues, maxQueues, deviceId } = specsOf(play);
      if (deviceId === 0) fail("a device id", "0");
      if (minQueues < 1 || maxQueues < minQueues) {
        fail("1 <= min_vqs <= max_vqs", `${minQueues} and ${maxQueues}`);
      }
      const again = askSpecs(play.connect(), play.offer.protocol);
      expectEqual("the same answer:", JSON.stringify(again), JSON.stringify(specsOf(play)));
    },
  },
  {
    id: "drafts.specs-queues",
    title: "GET_BACKEND_SPECS tells as many queues as GET_QUEUE_NUM",
    source: STANDALONE,
    run(play) {
      const { maxQueues } = specsOf(play);
      play.needsProtocol(ProtocolFeature.MQ);
      expectEqual("max_vqs", maxQueues, play.offer.queues ?? 0);
    },
  },
  {
    id: "drafts.specs-config",
    title: "All bytes of config space that GET_BACKEND_SPECS counts can be read",
    source: STANDALONE,
    run(play) {
      const { configSize } = specsOf(play);
      if (configSize === 0) notOffered("a config space");
      play.needsProtocol(ProtocolFeature.CONFIG);
      const { payload } = ask(play.greet(), M.GET_CONFIG, config(0, configSize));
      expectEqual("bytes:", payload.length - ConfigHeader.size, configSize);
    },
  },
  {
    id: "drafts.specs-needs",
    title: "STANDALONE is offered with STATUS, and with CONFIG where there is a config space",
    source: STANDALONE,
    run(play) {
      const { configSize } = specsOf(play);
      const { protocol } = play.offer;
      if (!has(protocol, ProtocolFeature.STATUS)) fail("STATUS", "none");
      if (configSize > 0 && !has(protocol, ProtocolFeature.CONFIG)) fail("CONFIG", "none");
    },
  },
  {
    id: "drafts.specs-session",
    title: "A session in which GET_BACKEND_SPECS was asked goes on like any other",
    source: STANDALONE,
    run(play) {
      specsOf(play);
      play.running({ protocol: specsProtocol(play.offer.protocol) }).run(8);
    },
  },
  {
    id: "drafts.vhost-pci",
    title: "Accepted features are sent back by SET_FEATURES, where bit 4 is VHOST_PCI",
    source: "vhost-user: draft, VHOST_PCI",
    run(play) {
      play.needsProtocol(ProtocolFeature.NET_MTU);
      const connection = play.connect();
      const offered = askU64(connection, M.GET_FEATURES);
      const value = awaitAnnouncement(connection, offered, 300);
      if (value === null) notOffered("VHOST_PCI: bit 4 is NET_MTU");
      expectEqual("features", value, offered);
      play.close();
      play.expectAlive();
    },
  },
];
