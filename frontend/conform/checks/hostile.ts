/** Rings that a wrong or hostile driver filled: rows R1 to R11 but R7 and R10, of both kinds. */
import { has, RingFeature } from "../../../core/features.ts";
import { INDIRECT, NEXT, WRITE } from "../../ring-options.ts";
import { type Check, fail } from "../check.ts";
import { type Hostile, hostileCheck, onRing, provoke, SIZE, suffixOf } from "../hostile-ring.ts";
import type { Lane } from "../lane.ts";
import { beyondMemory, linked, offerChain, writeTable } from "../raw-ring.ts";
import { packed, type RingKind, ringKinds, split, startKind } from "../ring-kinds.ts";

/** Where a rule stands for split and for packed rings. */
const DESCRIPTORS = ["virtio 1.3 2.7.5", "virtio 1.3 2.8.13"] as const;
const LISTS = ["virtio 1.3 2.7.5.2", "virtio 1.3 2.8.17"] as const;
const TABLES = ["virtio 1.3 2.7.5.3", "virtio 1.3 2.8.7"] as const;
const INDIRECTS = ["virtio 1.3 2.7.5.3.1", "virtio 1.3 2.8.19"] as const;
const PARTS = ["virtio 1.3 2.7.4", "virtio 1.3 2.8.5"] as const;
const AVAILABLE = ["virtio 1.3 2.7.6", "virtio 1.3 2.8.1"] as const;

/** A list of descriptors that takes all slots of a packed ring, and has no end. */
const endless =
  (length: number) =>
  (lane: Lane, at: number): void =>
    offerChain(lane, Array(SIZE).fill({ address: at, length, flags: NEXT }));

const rows: readonly Hostile[] = [
  {
    name: "R1-head",
    title: "A head beyond the descriptor table",
    source: AVAILABLE,
    only: split,
    fill: ({ vring }) => vring.ring.offer(SIZE + 7),
  },
  {
    name: "R1-next",
    title: "A next field beyond the descriptor table",
    source: DESCRIPTORS,
    only: split,
    fill: (lane, at) => offerChain(lane, [{ address: at, length: 16, flags: NEXT, next: 60000 }]),
  },
  {
    name: "R2-self-loop",
    title: "A descriptor that is its own next one",
    source: LISTS,
    only: split,
    fill: (lane, at) => offerChain(lane, [{ address: at, length: 16, flags: NEXT, next: 0 }]),
  },
  {
    name: "R2-empty-loop",
    title: "A loop of descriptors of length 0",
    source: LISTS,
    only: split,
    fill: (lane, at) =>
      offerChain(lane, [
        { address: at, length: 0, flags: NEXT, next: 1 },
        { address: at, length: 0, flags: NEXT, next: 0 },
      ]),
  },
  {
    name: "R2-endless",
    title: "A list of descriptors that fills the ring and has no end",
    source: LISTS,
    only: packed,
    fill: endless(16),
  },
  {
    name: "R2-endless-empty",
    title: "A list of descriptors of length 0 that has no end",
    source: LISTS,
    only: packed,
    fill: endless(0),
  },
  {
    name: "R2-indirect-loop",
    title: "A loop in an indirect table",
    source: INDIRECTS,
    only: split,
    indirect: true,
    fill(lane, at) {
      writeTable(lane, at, [
        { address: at, length: 16, flags: NEXT, next: 1 },
        { address: at, length: 16, flags: NEXT, next: 0 },
      ]);
      offerChain(lane, [{ address: at, length: 32, flags: INDIRECT }]);
    },
  },
  {
    name: "R3-indirect-next",
    title: "An indirect descriptor with a next one",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      writeTable(lane, at, [{ address: at, length: 16 }]);
      offerChain(
        lane,
        linked([
          { address: at, length: 16, flags: INDIRECT },
          { address: at, length: 16, flags: WRITE },
        ]),
      );
    },
  },
  {
    name: "R3-nested",
    title: "An indirect table in an indirect table",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      writeTable(lane, at, [{ address: at, length: 16, flags: INDIRECT }]);
      offerChain(lane, [{ address: at, length: 16, flags: INDIRECT }]);
    },
  },
  ...([0, 17, 0xfffffff0] as const).map(
    (length): Hostile => ({
      name: `R3-table-${length}`,
      title: `An indirect table of ${length} bytes`,
      source: TABLES,
      indirect: true,
      fill: (lane, at) => offerChain(lane, [{ address: at, length, flags: INDIRECT }]),
    }),
  ),
  {
    name: "R3-table-outside",
    title: "An indirect table outside of memory",
    source: TABLES,
    indirect: true,
    fill: (lane) =>
      offerChain(lane, [{ address: beyondMemory(lane), length: 32, flags: INDIRECT }]),
  },
  {
    name: "R3-table-next",
    title: "A next field beyond an indirect table",
    source: INDIRECTS,
    only: split,
    indirect: true,
    fill(lane, at) {
      writeTable(lane, at, [{ address: at, length: 16, flags: NEXT, next: 9 }]);
      offerChain(lane, [{ address: at, length: 16, flags: INDIRECT }]);
    },
  },
  {
    name: "R5-outside",
    title: "A buffer outside of memory",
    source: DESCRIPTORS,
    fill: (lane) =>
      offerChain(
        lane,
        linked([
          { address: beyondMemory(lane), length: 16 },
          { address: beyondMemory(lane), length: 513, flags: WRITE },
        ]),
      ),
  },
  {
    name: "R5-partly-outside",
    title: "A buffer whose end is outside of memory",
    source: DESCRIPTORS,
    fill(lane, at) {
      const { end } = lane.frontend.memory.regions.at(-1)!;
      offerChain(
        lane,
        linked([
          { address: at, length: 16 },
          { address: end - 8, length: 513, flags: WRITE },
        ]),
      );
    },
  },
  {
    name: "R5-wrap",
    title: "A buffer that wraps at 2^64",
    source: DESCRIPTORS,
    fill: (lane) =>
      offerChain(
        lane,
        linked([
          { address: 0xffff_ffff_ffff_fff8n, length: 16 },
          { address: 0xffff_ffff_ffff_f000n, length: 0xffffffff, flags: WRITE },
        ]),
      ),
  },
  {
    name: "R5-empty",
    title: "A chain of one buffer of length 0 at address 0",
    source: DESCRIPTORS,
    fill: (lane) => offerChain(lane, [{ address: 0, length: 0 }]),
  },
  {
    name: "R5-huge",
    title: "Buffers of 4 GiB each",
    source: DESCRIPTORS,
    fill: (lane, at) =>
      offerChain(
        lane,
        linked([
          { address: at, length: 0xffffffff },
          { address: at, length: 0xffffffff, flags: WRITE },
        ]),
      ),
  },
  {
    name: "R6-order",
    title: "A device-readable buffer after a device-writable one",
    source: ["virtio 1.3 2.7.4.2", "virtio 1.3 2.8.17"],
    fill: (lane, at) =>
      offerChain(
        lane,
        linked([
          { address: at + 64, length: 513, flags: WRITE },
          { address: at, length: 16 },
        ]),
      ),
  },
  {
    name: "R6-only-readable",
    title: "A chain in which the device can write nothing",
    source: PARTS,
    fill: (lane, at) => offerChain(lane, [{ address: at, length: 16 }]),
  },
  {
    name: "R6-only-writable",
    title: "A chain in which the device can read nothing",
    source: PARTS,
    fill: (lane, at) => offerChain(lane, [{ address: at, length: 1, flags: WRITE }]),
  },
  {
    name: "R8-jump",
    title: "An available index that jumps by more than the ring has",
    source: AVAILABLE,
    only: split,
    fill: ({ vring }) => vring.ring.publishIndex((vring.ring.availableIndex + SIZE + 900) & 0xffff),
  },
  {
    name: "R8-backwards",
    title: "An available index that goes back",
    source: AVAILABLE,
    only: split,
    fill: ({ vring }) => vring.ring.publishIndex((vring.ring.availableIndex - 3) & 0xffff),
  },
  {
    name: "R11-twice",
    title: "One head, or buffer id, twice at the same time",
    source: ["virtio 1.3 2.7.13", "virtio 1.3 2.8.21.1"],
    fill(lane, at) {
      const parts = linked([
        { address: at, length: 16 },
        { address: at + 64, length: 513, flags: WRITE },
      ]);
      offerChain(lane, parts);
      offerChain(lane, parts);
    },
  },
];

/** Checks that are more than a ring and what comes after it. */
function further(kind: RingKind): readonly Check[] {
  const suffix = suffixOf(kind);
  const on = onRing(kind);
  const breaking = rows.find(({ name }) => name === (kind === packed ? "R2-endless" : "R1-head"))!;
  return [
    {
      id: `hostile.R3-indirect-not-accepted${suffix}`,
      title: `An indirect table without INDIRECT_DESC is not used${on}`,
      source: INDIRECTS[kind === packed ? 1 : 0],
      run(play) {
        const lane = startKind(play, kind, { without: [RingFeature.INDIRECT_DESC] });
        if (has(lane.frontend.features, RingFeature.INDIRECT_DESC)) fail("no INDIRECT_DESC", "it");
        lane.run(2);
        const { ring } = lane.vring;
        const before = ring.shownUsedIndex;
        lane.submit({ indirect: true });
        lane.forceKick();
        play.pause();
        if (ring.shownUsedIndex !== before) fail("no completion", "one");
        play.expectAlive();
      },
    },
    {
      id: `hostile.R9-events${suffix}`,
      title: `Garbage in the event fields costs notifications, not requests${on}`,
      source: kind === packed ? "virtio 1.3 2.8.10" : "virtio 1.3 2.7.10",
      run(play) {
        play.needsFeature(RingFeature.EVENT_IDX);
        const lane = startKind(play, kind, { vring: { calls: false } });
        const { ring } = lane.vring;
        const field = ring.place.available + (ring.packed ? 0 : 4 + 2 * ring.size);
        for (let i = 0; i < 200; i++) {
          const event = [i * 77, i * 13, i * 31, i].slice(0, ring.packed ? 4 : 2);
          lane.frontend.memory.write(field, Uint8Array.from(event));
          lane.run(1);
        }
      },
    },
    {
      id: `hostile.err-signalled${suffix}`,
      title: `A broken ring is told by its err descriptor, or ends the connection${on}`,
      source: "vhost-user: SET_VRING_ERR",
      run(play) {
        const lane = provoke(play, kind, breaking);
        if (lane.vring.broken(play.timeout / 4)) return;
        if (!lane.connection.endsWithin(50)) fail("err to be signalled", "nothing");
      },
    },
    {
      id: `hostile.restart-after-error${suffix}`,
      title: `A ring that was broken works again after it was stopped and set up anew${on}`,
      source: "vhost-user: Ring states",
      run(play) {
        const lane = provoke(play, kind, breaking);
        const { frontend } = lane;
        if (lane.connection.endsWithin(50)) return;
        for (const vring of lane.vrings) frontend.stopVring(vring);
        const again = play.lane(frontend);
        again.start();
        again.run(8);
      },
    },
  ];
}

export const hostile: readonly Check[] = ringKinds.flatMap((kind) => [
  ...rows.filter(({ only = kind }) => only === kind).map((row) => hostileCheck(row, kind)),
  ...further(kind),
]);
