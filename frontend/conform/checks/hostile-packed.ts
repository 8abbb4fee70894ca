/** What can be wrong with packed rings only: row R10. */
import { AVAIL, USED } from "../../packed-position.ts";
import { INDIRECT, NEXT, type RawDescriptor, WRITE } from "../../ring-options.ts";
import { type Check, expectEqual } from "../check.ts";
import { type Hostile, hostileCheck, SIZE } from "../hostile-ring.ts";
import type { Lane } from "../lane.ts";
import { linked, nextSlot, offerChain, packedRing, slotBytes, writeTable } from "../raw-ring.ts";
import { packed, startKind } from "../ring-kinds.ts";
import { M, tell, u64, vringState } from "../wire.ts";

const COUNTERS = "virtio 1.3 2.8.1";
const LISTS = "virtio 1.3 2.8.6";
const TABLES = "virtio 1.3 2.8.19";

const BOTH = AVAIL | USED;

/** Slots that are not available, and what differs in their flags from those of one that is. */
const others = [
  ["of the lap before", AVAIL],
  ["that is used", USED],
  ["of the next lap", BOTH],
] as const;

const pair = (at: number): RawDescriptor[] => [
  { address: at, length: 16 },
  { address: at + 64, length: 513, flags: WRITE },
];

function row(name: string, title: string, source: string, fill: Hostile["fill"]): Hostile {
  return { name, title, source: [source, source], only: packed, fill };
}

const rows: readonly Hostile[] = [
  ...others.map(([what, change]) =>
    row(
      `R10-goes-on-${what.replaceAll(" ", "-")}`,
      `A list that goes on in a slot ${what}`,
      LISTS,
      (lane, at) => {
        const ring = packedRing(lane);
        const slot = nextSlot(lane);
        const flags = (ring.ownerFlags(1) ^ change) | WRITE;
        ring.describe(slot + 1, { address: at + 64, length: 513, flags });
        ring.describe(slot, { address: at, length: 16, flags: NEXT | ring.ownerFlags() });
      },
    ),
  ),
  row("R10-list-begins-with-table", "A list whose first part is a table", TABLES, (lane, at) => {
    const [first, ...rest] = linked(pair(at));
    offerChain(lane, [{ ...first!, flags: NEXT | INDIRECT }, ...rest]);
  }),
  row("R10-list-ends-with-table", "A list whose last part is a table", TABLES, (lane, at) => {
    writeTable(lane, at + 1024, pair(at));
    const table = { address: at + 1024, length: 32, flags: INDIRECT };
    offerChain(lane, linked([{ address: at, length: 16 }, table]));
  }),
  row(
    "R10-id-beyond",
    "A buffer id beyond the ring, which is the driver's to choose",
    "virtio 1.3 2.8.13",
    (lane, at) => {
      for (const id of [SIZE, 0x7fff, 0xffff]) offerChain(lane, linked(pair(at)), id);
    },
  ),
];

/** Fails when the device takes or completes what is in the next slots. */
function expectLeftAlone(lane: Lane, pause: () => void): void {
  const slots = [nextSlot(lane), nextSlot(lane) + 1];
  const before = slots.map((slot) => slotBytes(lane, slot));
  lane.forceKick();
  pause();
  slots.forEach((slot, i) => {
    expectEqual(`a slot ${slot} of`, slotBytes(lane, slot), before[i]!);
  });
}

/** Positions that a ring of `SIZE` slots cannot have: slots beyond it, a lead of more than a lap. */
const bases = [0x80008040, 0x80408000, 0xffffffff, 0x7fff7fff, 0x80058004, 0x00008001];

export const hostilePacked: readonly Check[] = [
  ...rows.map((each) => hostileCheck(each, packed)),
  {
    id: "hostile.R10-other-lap",
    title: "Slots whose flags are not those of an available one in this lap are left alone",
    source: COUNTERS,
    run(play) {
      const lane = startKind(play, packed, { ringSize: SIZE });
      lane.run(2);
      const at = lane.frontend.memory.allocate(4096, 4096);
      const ring = packedRing(lane);
      for (const [, change] of others) {
        for (const more of [WRITE, WRITE | NEXT]) {
          const flags = (ring.ownerFlags() ^ change) | more;
          ring.describe(nextSlot(lane), { address: at, length: 513, flags });
          expectLeftAlone(lane, () => play.pause(20));
        }
      }
      lane.run(8);
    },
  },
  {
    id: "hostile.R10-later-slot",
    title: "An available slot behind one that is not available is left alone",
    source: COUNTERS,
    run(play) {
      const lane = startKind(play, packed, { ringSize: SIZE });
      lane.run(2);
      const at = lane.frontend.memory.allocate(4096, 4096);
      const ring = packedRing(lane);
      const flags = WRITE | ring.ownerFlags(1);
      ring.describe(nextSlot(lane) + 1, { address: at, length: 513, flags });
      expectLeftAlone(lane, () => play.pause());
      const gone = { address: at, length: 513, flags: flags ^ BOTH };
      ring.describe(nextSlot(lane) + 1, gone);
      lane.run(8);
    },
  },
  {
    id: "hostile.R10-wrap",
    title: "Lists go across the end of a ring, whatever its size, and both counters change there",
    source: COUNTERS,
    run(play) {
      for (const ringSize of [4, 5, 7, 48]) {
        const lane = startKind(play, packed, { ringSize });
        const count = 4 * ringSize;
        lane.run(count, { pieces: 2, depth: 4 });
        lane.run(count);
        expectEqual("a base of", lane.stop(), lane.vring.ring.base);
        play.close();
      }
    },
  },
  {
    id: "hostile.R10-base",
    title: "Positions that a packed ring cannot have are refused, or do no harm",
    source: "vhost-user: SET_VRING_BASE",
    run(play) {
      for (const base of bases) {
        const lane = startKind(play, packed, { ringSize: SIZE });
        const { vring, connection } = lane;
        const { index } = vring;
        lane.stop();
        tell(connection, M.SET_VRING_BASE, vringState(index, base));
        lane.submit();
        tell(connection, M.SET_VRING_KICK, u64(index), [vring.kick.reader]);
        tell(connection, M.SET_VRING_ENABLE, vringState(index, 1));
        lane.forceKick();
        play.pause(5);
        play.close();
      }
      play.expectAlive();
    },
  },
];
