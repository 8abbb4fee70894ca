/** Devices behind an IOMMU: what their addresses mean is told, asked for and taken back. Row M13. */
import { RingFeature } from "../../../core/features.ts";
import { Iotlb } from "../../../core/payloads.ts";
import { IotlbMessage, ProtocolFeature } from "../../../core/protocol.ts";
import { type Iommu, type IommuOptions, Permission } from "../../iommu.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import { type Lane, POISON } from "../lane.ts";
import type { Play } from "../play.ts";
import { ask, M } from "../wire.ts";

const SOURCE = "vhost-user: IOMMU support";
const PAGE = 4096;
const { MISS, UPDATE, INVALIDATE } = IotlbMessage;

interface Guest {
  readonly lane: Lane;
  readonly iommu: Iommu;
}

/** A guest behind an IOMMU whose rings are not set up yet. */
function behind(play: Play, options: IommuOptions = {}): Guest {
  play.needsFeature(RingFeature.ACCESS_PLATFORM);
  play.needsProtocol(ProtocolFeature.BACKEND_REQ, ProtocolFeature.REPLY_ACK);
  const lane = play.parked({ iommu: options });
  return { lane, iommu: lane.frontend.iommu! };
}

/** The same with rings that run; what they lie in is asked for. */
function runningBehind(play: Play, options: IommuOptions = {}): Guest {
  const guest = behind(play, options);
  guest.lane.start();
  return guest;
}

/** Tells the back-end of all of the guest's memory. */
function mapAll({ lane, iommu }: Guest): void {
  for (const { plan } of lane.frontend.memory.regions) {
    const { guestAddress: target, size } = plan;
    iommu.update({ address: target + iommu.offset, size, target, permission: Permission.BOTH });
  }
}

/** Updates and invalidations that cannot be, by what is wrong with them. */
const wrong: readonly (readonly [name: string, title: string, fields: Fields])[] = [
  ["outside", "a user address that no region has", { user: 0x1000n }],
  ["size-0", "size 0", { size: 0n }],
  ["huge", "a size that no region has", { size: 2n ** 52n }],
  ["wrap", "an I/O address that wraps", { iova: 2n ** 64n - 4096n, size: 8192n }],
  ["permission", "no permission", { permission: 0 }],
  ["type", "a type that only back-ends send", { type: MISS }],
];

interface Fields {
  readonly iova?: bigint;
  readonly size?: bigint;
  /** The start of the first region by default. */
  readonly user?: bigint;
  readonly permission?: number;
  readonly type?: number;
}

function wrongMessage([name, title, fields]: (typeof wrong)[number]): Check {
  return {
    id: `iotlb.M13-${name}`,
    title: `An IOTLB message with ${title} is refused and changes nothing`,
    source: SOURCE,
    run(play) {
      const { lane } = runningBehind(play);
      lane.run(2);
      const payload = Iotlb.encode({
        iova: 2n ** 40n,
        size: BigInt(PAGE),
        userAddress: fields.user ?? BigInt(lane.frontend.memory.regions[0]!.plan.userAddress),
        permission: Permission.BOTH,
        type: UPDATE,
        ...fields,
      });
      const { answer, payload: reply } = ask(lane.connection, M.IOTLB_MSG, payload);
      if (answer === "closed") return play.expectAlive();
      if (answer !== "ok") fail("an answer or the end", answer);
      if (reply.every((byte) => byte === 0)) fail("a refusal", "success");
      lane.run(4);
    },
  };
}

export const iotlb: readonly Check[] = [
  {
    id: "iotlb.mapped",
    title: "Rings and buffers are found through mappings that were sent before",
    source: SOURCE,
    run(play) {
      const guest = behind(play);
      mapAll(guest);
      guest.lane.start();
      guest.lane.run(40, { depth: 8, pieces: 2 });
    },
  },
  {
    id: "iotlb.miss",
    title: "What is not mapped is asked for, and the request goes on once it is",
    source: SOURCE,
    run(play) {
      const { lane, iommu } = runningBehind(play);
      lane.run(40, { depth: 8 });
      if (iommu.misses.length === 0) fail("a miss", "none");
    },
  },
  {
    id: "iotlb.across",
    title: "Buffers and tables go across the pages of several entries",
    source: SOURCE,
    run(play) {
      const { lane } = runningBehind(play);
      const at = lane.frontend.memory.allocate(4 * PAGE, PAGE);
      for (const before of [1, 8, 100]) {
        lane.run(1, { requestAt: at + PAGE - before, answerAt: at + 3 * PAGE - before });
      }
    },
  },
  {
    id: "iotlb.invalidate",
    title: "A mapping that is taken back is asked for again",
    source: SOURCE,
    run(play) {
      const { lane, iommu } = runningBehind(play);
      lane.run(4);
      for (let round = 0; round < 5; round++) {
        const before = iommu.misses.length;
        iommu.invalidate();
        lane.run(4);
        if (iommu.misses.length === before) fail("a miss after the invalidation", "none");
      }
    },
  },
  {
    id: "iotlb.moved",
    title: "After an update of the same address its new memory is used, not the old",
    source: SOURCE,
    run(play) {
      const guest = behind(play);
      const { lane, iommu } = guest;
      mapAll(guest);
      lane.start();
      const { memory } = lane.frontend;
      const at = memory.allocate(2 * PAGE, PAGE);
      const content = new Uint8Array(PAGE).fill(POISON);
      lane.run(1, { answerAt: at });
      memory.write(at, content);
      memory.write(at + PAGE, content);
      const permission = Permission.BOTH;
      iommu.invalidate(at + iommu.offset, PAGE);
      iommu.update({ address: at + iommu.offset, size: PAGE, target: at + PAGE, permission });
      const { room } = lane.exercise.request(0);
      lane.submit({ answerAt: at });
      lane.publish();
      if (!lane.vring.wait(play.timeout)) fail("a completion", "none");
      if (memory.read(at, room).some((byte) => byte !== POISON)) {
        fail("the old memory to be left alone", "a change");
      }
    },
  },
  {
    id: "iotlb.read-only",
    title: "Memory that may only be read is not written",
    source: SOURCE,
    run(play) {
      const { READ, BOTH } = Permission;
      let guarded = -1;
      const miss: IommuOptions["miss"] = ({ address }, iommu) => {
        const target = address - iommu.offset;
        const inside = target >= guarded && target < guarded + PAGE;
        return iommu.page(address, inside ? READ : BOTH) ?? "refuse";
      };
      const { lane } = runningBehind(play, { miss });
      const { memory } = lane.frontend;
      guarded = memory.allocate(PAGE, PAGE);
      const { room } = lane.exercise.request(0);
      lane.submit({ answerAt: guarded });
      lane.publish();
      const end = performance.now() + 200;
      while (performance.now() < end) lane.frontend.iommu!.serve();
      if (memory.read(guarded, room).some((byte) => byte !== POISON)) fail("no write", "one");
      play.expectAlive();
    },
  },
  {
    id: "iotlb.refused",
    title: "A miss that is answered by an error costs no more than its queue",
    source: SOURCE,
    run(play) {
      let refuse = false;
      const { lane, iommu } = runningBehind(play, {
        miss: ({ address }, unit) => (refuse ? "refuse" : (unit.page(address) ?? "refuse")),
      });
      lane.run(2);
      refuse = true;
      iommu.invalidate();
      lane.submit();
      lane.forceKick();
      const end = performance.now() + 100;
      while (performance.now() < end) iommu.serve();
      expectEqual("completions:", lane.vring.ring.ready, false);
      play.expectAlive();
    },
  },
  {
    id: "iotlb.M13-invalidate-all",
    title: "Mappings that are taken back again and again while requests run lose none of them",
    source: SOURCE,
    run(play) {
      const { lane, iommu } = runningBehind(play);
      for (let i = 0; i < 100; i++) {
        for (let k = 0; k < 8; k++) lane.submit();
        lane.publish();
        iommu.invalidate(0, i % 2 === 0 ? 0 : 2 ** 52);
        lane.finish();
      }
    },
  },
  ...wrong.map(wrongMessage),
  {
    id: "iotlb.M13-not-negotiated",
    title: "IOTLB messages are refused where no IOMMU is negotiated",
    source: SOURCE,
    run(play) {
      play.needsFeature(RingFeature.ACCESS_PLATFORM);
      const lane = play.running();
      const payload = Iotlb.encode({ iova: 0n, size: BigInt(PAGE), type: INVALIDATE });
      const { answer, payload: reply } = ask(lane.connection, M.IOTLB_MSG, payload);
      if (answer === "closed") return play.expectAlive();
      if (answer !== "ok" || reply.every((byte) => byte === 0)) fail("a refusal", answer);
      lane.run(4);
    },
  },
];
