/** The orders in which front-ends set a device up, and orders that none uses but all may. */
import { has, mask, RingFeature, VhostFeature } from "../../../core/features.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { ringFeatures } from "../../negotiation.ts";
import type { Vring } from "../../vring.ts";
import { type Check, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { M, u64 } from "../wire.ts";

const P = ProtocolFeature;
const RINGS = "vhost-user: Ring states";

type Step = "size" | "base" | "addresses" | "call" | "err" | "kick" | "enable";

function take(lane: Lane, vring: Vring, step: Step): void {
  const { connection } = lane;
  switch (step) {
    case "size":
      return vring.setSize(connection);
    case "base":
      return vring.setBase(connection, vring.ring.usedIndex);
    case "addresses":
      return vring.setAddresses(connection);
    case "call":
      return vring.setCall(connection);
    case "err":
      return vring.setErr(connection);
    case "kick":
      return vring.setKick(connection);
    case "enable":
      if (has(lane.frontend.features, VhostFeature.PROTOCOL_FEATURES)) {
        vring.enable(connection, true);
      }
  }
}

/** Sets up each vring by these steps, one vring after another or all together step by step. */
function setUp(lane: Lane, steps: readonly Step[], together = false): void {
  if (together) for (const step of steps) for (const vring of lane.vrings) take(lane, vring, step);
  else for (const vring of lane.vrings) for (const step of steps) take(lane, vring, step);
  lane.driverReady();
}

function tryOut(lane: Lane): void {
  lane.prepare();
  lane.run(8);
}

/** A check of one order of the messages that set a vring up. */
function ordered(name: string, title: string, steps: readonly Step[], together = false): Check {
  return {
    id: `handshake.${name}`,
    title,
    source: RINGS,
    run(play) {
      const lane = play.parked();
      setUp(lane, steps, together);
      tryOut(lane);
    },
  };
}

/** The call comes before the kick, so that there is one for what is processed at once. */
const QEMU: readonly Step[] = ["size", "base", "addresses", "err", "call", "kick", "enable"];

/** All of a ring's life but the last step. */
const UNABLED: readonly Step[] = ["size", "base", "addresses", "err", "kick", "call"];

interface Waiting {
  readonly title: string;
  /** Steps before there are requests. */
  readonly before?: readonly Step[];
  /** The driver kicks when there are. */
  readonly kicked?: boolean;
  /** Steps afterwards. */
  readonly rest: readonly Step[];
}

/** Requests that wait in the ring for the rest of its handshake are carried out without a further kick. */
function waiting(name: string, source: string, order: Waiting): Check {
  const { title, before = [], kicked = false, rest } = order;
  return {
    id: `handshake.${name}`,
    title,
    source,
    run(play) {
      if (before === UNABLED) needsEnable(play);
      const lane = play.parked();
      setUp(lane, before);
      for (let i = 0; i < 4; i++) lane.submit();
      if (kicked) lane.forceKick();
      else lane.vring.ring.publish();
      if (before.length > 0) play.pause();
      setUp(lane, rest);
      lane.finish();
    },
  };
}

function needsEnable(play: Play): void {
  play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
}

export const handshake: readonly Check[] = [
  {
    id: "handshake.qemu",
    title: "QEMU's order: call and err first, then features, memory, and ring by ring",
    source: RINGS,
    run(play) {
      const frontend = play.frontend();
      const lane = play.lane(frontend);
      for (const vring of lane.vrings) {
        take(lane, vring, "call");
        take(lane, vring, "err");
      }
      frontend.acceptFeatures();
      frontend.shareMemory();
      setUp(lane, ["size", "base", "addresses", "kick", "call"]);
      setUp(lane, ["enable"]);
      tryOut(lane);
    },
  },
  {
    id: "handshake.cloud-hypervisor",
    title: "cloud-hypervisor's order: all sizes first, the channel for requests last",
    source: RINGS,
    run(play) {
      const frontend = play.guest({ order: "owner-first" });
      const lane = play.lane(frontend);
      lane.start();
      lane.run(8);
    },
  },
  {
    id: "handshake.firecracker",
    title: "Firecracker's order: owner first, only CONFIG, one memory table, sizes before the rest",
    source: RINGS,
    run(play) {
      const config = mask(P.CONFIG);
      const frontend = play.guest({ order: "owner-first", protocol: config, share: "table" });
      const lane = play.lane(frontend, { ringSize: 256 });
      setUp(lane, ["size"], true);
      setUp(lane, ["addresses", "base", "call", "kick", "enable"]);
      tryOut(lane);
    },
  },
  {
    id: "handshake.user-mode-linux",
    title: "User-Mode Linux's order: REPLY_ACK and BACKEND_REQ, kick before call, table with room",
    source: RINGS,
    run(play) {
      const protocol = mask(P.REPLY_ACK, P.BACKEND_REQ, P.CONFIG);
      const lane = play.lane(play.guest({ order: "owner-first", protocol, share: "table" }));
      setUp(lane, ["size", "base", "addresses", "kick", "call", "enable"]);
      tryOut(lane);
    },
  },
  {
    id: "handshake.no-acknowledgements",
    title: "No REPLY_ACK: everything works without an answer",
    source: RINGS,
    run(play) {
      play.running({ protocol: mask(P.CONFIG, P.MQ) }).run(8);
    },
  },
  {
    id: "handshake.no-protocol-features",
    title: "Without bit 30 rings are enabled from the start",
    source: RINGS,
    run(play) {
      play.running({ protocol: null, share: "table" }).run(8);
    },
  },
  ordered("enable-before-kick", "A ring enabled before its kick works", [
    "size",
    "base",
    "addresses",
    "enable",
    "call",
    "err",
    "kick",
  ]),
  ordered("kick-first-enable-last", "A ring kicked before its call and enabled last works", [
    "size",
    "base",
    "addresses",
    "kick",
    "err",
    "call",
    "enable",
  ]),
  ordered("step-by-step", "Each step for all rings before the next step", QEMU, true),
  ordered("call-first", "Call and err before everything else", [
    "call",
    "err",
    "addresses",
    "size",
    "base",
    "kick",
    "enable",
  ]),
  ordered("enable-first", "A ring enabled before anything is known of it works", [
    "enable",
    "size",
    "base",
    "addresses",
    "call",
    "kick",
  ]),
  {
    id: "handshake.enable-twice",
    title: "Enabling twice is the same as once",
    source: RINGS,
    run(play) {
      const lane = play.parked();
      setUp(lane, [...QEMU, "enable"]);
      tryOut(lane);
    },
  },
  {
    id: "handshake.without-kick-message",
    title: "A ring that is enabled but not started processes nothing",
    source: RINGS,
    run(play) {
      needsEnable(play);
      const lane = play.parked();
      setUp(lane, ["size", "base", "addresses", "call", "enable"]);
      const { ring } = lane.vring;
      lane.submit();
      ring.publish();
      play.pause();
      if (ring.shownUsedIndex !== ring.usedIndex) fail("no completion", "one");
      setUp(lane, ["kick"]);
      lane.vring.kick.signal();
      lane.finish();
    },
  },
  waiting("requests-before-start", RINGS, {
    title: "What was made available before SET_VRING_KICK is processed at once, without a kick",
    rest: QEMU,
  }),
  waiting("requests-before-enable", RINGS, {
    title: "What was made available before SET_VRING_ENABLE is processed at once, without a kick",
    before: UNABLED,
    rest: ["enable"],
  }),
  waiting("kick-before-enable", RINGS, {
    title: "A kick that comes before SET_VRING_ENABLE is not lost",
    before: UNABLED,
    kicked: true,
    rest: ["enable"],
  }),
  waiting("kick-before-start", RINGS, {
    title: "A kick that waits in the descriptor when it is passed is not lost",
    kicked: true,
    rest: QEMU,
  }),
  waiting("call-after-completion", "vhost-user: SET_VRING_CALL", {
    title: "A ring that completes requests before SET_VRING_CALL came goes on when it has come",
    kicked: true,
    before: ["size", "base", "addresses", "kick", "enable"],
    rest: ["call"],
  }),
  {
    id: "handshake.disabled-ring",
    title: "A ring that is started and not enabled completes nothing",
    source: RINGS,
    run(play) {
      needsEnable(play);
      const lane = play.parked();
      setUp(lane, UNABLED);
      const { ring } = lane.vring;
      lane.submit();
      lane.publish();
      lane.vring.kick.signal();
      play.pause();
      // A network device may drop what is sent meanwhile.
      if (play.device !== "net" && ring.shownUsedIndex !== ring.usedIndex) {
        fail("no completion while disabled", "one");
      }
    },
  },
  {
    id: "handshake.memory-after-rings",
    title: "A memory table sent again while rings run leaves them running",
    source: "vhost-user: SET_MEM_TABLE",
    run(play) {
      const lane = play.running({ share: "table" });
      lane.run(4);
      lane.frontend.replaceMemory();
      lane.run(4);
    },
  },
  {
    id: "handshake.features-while-running",
    title: "SET_FEATURES sent again while rings run does not stop them",
    source: "vhost-user: SET_FEATURES",
    run(play) {
      const lane = play.running();
      lane.run(4);
      lane.connection.command(M.SET_FEATURES, u64(lane.frontend.features));
      lane.run(4);
    },
  },
  {
    id: "handshake.minimal-features",
    title: "VERSION_1 alone is enough",
    source: "virtio 1.3 6.1",
    run(play) {
      play
        .running({
          features: (play.wantedFeatures() & ~ringFeatures) | mask(RingFeature.VERSION_1),
        })
        .run(8);
    },
  },
];
