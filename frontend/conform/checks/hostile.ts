/** Rings that a wrong or hostile driver filled: rows R1 to R11. */
import { has, RingFeature } from "../../../core/features.ts";
import { BackEndError } from "../../errors.ts";
import { INDIRECT, NEXT, type RawDescriptor, WRITE } from "../../ring-options.ts";
import { type Check, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { M } from "../wire.ts";

const SIZE = 64;
const DESCRIPTORS = "virtio 1.3 2.7.5";
const INDIRECTS = "virtio 1.3 2.7.5.3.1";

interface Hostile {
  readonly name: string;
  readonly title: string;
  readonly source: string;
  readonly indirect?: boolean;
  /** Fills the ring. `at` is a page of guest memory to use. */
  fill(lane: Lane, at: number): void;
}

/** Offers one chain made of these descriptors, the first of them its head. */
function chain(lane: Lane, ...descriptors: readonly RawDescriptor[]): void {
  const { ring } = lane.vring;
  for (const [i, descriptor] of descriptors.entries()) ring.describe(i, descriptor);
  ring.offer(0);
}

/** Writes a table of descriptors into guest memory. */
function table(lane: Lane, at: number, descriptors: readonly RawDescriptor[]): void {
  const bytes = new Uint8Array(16 * descriptors.length);
  const view = new DataView(bytes.buffer);
  descriptors.forEach(({ address, length, flags = 0, next = 0 }, i) => {
    view.setBigUint64(16 * i, BigInt.asUintN(64, BigInt(address)), true);
    view.setUint32(16 * i + 8, length, true);
    view.setUint16(16 * i + 12, flags, true);
    view.setUint16(16 * i + 14, next, true);
  });
  lane.frontend.memory.write(at, bytes);
}

const beyond = (lane: Lane): number => {
  const { regions } = lane.frontend.memory;
  return regions.at(-1)!.end + 2 ** 30;
};

const rows: readonly Hostile[] = [
  {
    name: "R1-head",
    title: "A head beyond the descriptor table",
    source: "virtio 1.3 2.7.6",
    fill: ({ vring }) => vring.ring.offer(SIZE + 7),
  },
  {
    name: "R1-next",
    title: "A next field beyond the descriptor table",
    source: DESCRIPTORS,
    fill: (lane, at) => chain(lane, { address: at, length: 16, flags: NEXT, next: 60000 }),
  },
  {
    name: "R2-self-loop",
    title: "A descriptor that is its own next one",
    source: "virtio 1.3 2.7.5.2",
    fill: (lane, at) => chain(lane, { address: at, length: 16, flags: NEXT, next: 0 }),
  },
  {
    name: "R2-empty-loop",
    title: "A loop of descriptors of length 0",
    source: "virtio 1.3 2.7.5.2",
    fill: (lane, at) =>
      chain(
        lane,
        { address: at, length: 0, flags: NEXT, next: 1 },
        { address: at, length: 0, flags: NEXT, next: 0 },
      ),
  },
  {
    name: "R2-indirect-loop",
    title: "A loop in an indirect table",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      table(lane, at, [
        { address: at, length: 16, flags: NEXT, next: 1 },
        { address: at, length: 16, flags: NEXT, next: 0 },
      ]);
      chain(lane, { address: at, length: 32, flags: INDIRECT });
    },
  },
  {
    name: "R3-indirect-next",
    title: "An indirect descriptor with a next one",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      table(lane, at, [{ address: at, length: 16 }]);
      chain(
        lane,
        { address: at, length: 16, flags: INDIRECT | NEXT, next: 1 },
        { address: at, length: 16, flags: WRITE },
      );
    },
  },
  {
    name: "R3-nested",
    title: "An indirect table in an indirect table",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      table(lane, at, [{ address: at, length: 16, flags: INDIRECT }]);
      chain(lane, { address: at, length: 16, flags: INDIRECT });
    },
  },
  ...([0, 17, 0xfffffff0] as const).map(
    (length): Hostile => ({
      name: `R3-table-${length}`,
      title: `An indirect table of ${length} bytes`,
      source: "virtio 1.3 2.7.5.3",
      indirect: true,
      fill: (lane, at) => chain(lane, { address: at, length, flags: INDIRECT }),
    }),
  ),
  {
    name: "R3-table-outside",
    title: "An indirect table outside of memory",
    source: "virtio 1.3 2.7.5.3",
    indirect: true,
    fill: (lane) => chain(lane, { address: beyond(lane), length: 32, flags: INDIRECT }),
  },
  {
    name: "R3-table-next",
    title: "A next field beyond an indirect table",
    source: INDIRECTS,
    indirect: true,
    fill(lane, at) {
      table(lane, at, [{ address: at, length: 16, flags: NEXT, next: 9 }]);
      chain(lane, { address: at, length: 16, flags: INDIRECT });
    },
  },
  {
    name: "R5-outside",
    title: "A buffer outside of memory",
    source: DESCRIPTORS,
    fill: (lane) =>
      chain(
        lane,
        { address: beyond(lane), length: 16, flags: NEXT, next: 1 },
        { address: beyond(lane), length: 513, flags: WRITE },
      ),
  },
  {
    name: "R5-partly-outside",
    title: "A buffer whose end is outside of memory",
    source: DESCRIPTORS,
    fill(lane, at) {
      const { end } = lane.frontend.memory.regions.at(-1)!;
      chain(
        lane,
        { address: at, length: 16, flags: NEXT, next: 1 },
        { address: end - 8, length: 513, flags: WRITE },
      );
    },
  },
  {
    name: "R5-wrap",
    title: "A buffer that wraps at 2^64",
    source: DESCRIPTORS,
    fill: (lane) =>
      chain(
        lane,
        { address: 0xffff_ffff_ffff_fff8n, length: 16, flags: NEXT, next: 1 },
        { address: 0xffff_ffff_ffff_f000n, length: 0xffffffff, flags: WRITE },
      ),
  },
  {
    name: "R5-empty",
    title: "A chain of one buffer of length 0 at address 0",
    source: DESCRIPTORS,
    fill: (lane) => chain(lane, { address: 0, length: 0 }),
  },
  {
    name: "R5-huge",
    title: "Buffers of 4 GiB each",
    source: DESCRIPTORS,
    fill: (lane, at) =>
      chain(
        lane,
        { address: at, length: 0xffffffff, flags: NEXT, next: 1 },
        { address: at, length: 0xffffffff, flags: WRITE },
      ),
  },
  {
    name: "R6-order",
    title: "A device-readable buffer after a device-writable one",
    source: "virtio 1.3 2.7.4.2",
    fill: (lane, at) =>
      chain(
        lane,
        { address: at + 64, length: 513, flags: WRITE | NEXT, next: 1 },
        { address: at, length: 16 },
      ),
  },
  {
    name: "R6-only-readable",
    title: "A chain in which the device can write nothing",
    source: "virtio 1.3 2.7.4",
    fill: (lane, at) => chain(lane, { address: at, length: 16 }),
  },
  {
    name: "R6-only-writable",
    title: "A chain in which the device can read nothing",
    source: "virtio 1.3 2.7.4",
    fill: (lane, at) => chain(lane, { address: at, length: 1, flags: WRITE }),
  },
  {
    name: "R8-jump",
    title: "An available index that jumps by more than the ring has",
    source: "virtio 1.3 2.7.6",
    fill: ({ vring }) => vring.ring.publishIndex((vring.ring.availableIndex + SIZE + 900) & 0xffff),
  },
  {
    name: "R8-backwards",
    title: "An available index that goes back",
    source: "virtio 1.3 2.7.6",
    fill: ({ vring }) => vring.ring.publishIndex((vring.ring.availableIndex - 3) & 0xffff),
  },
  {
    name: "R11-twice",
    title: "One head twice at the same time",
    source: "virtio 1.3 2.7.13",
    fill(lane, at) {
      const { ring } = lane.vring;
      ring.describe(0, { address: at, length: 16, flags: NEXT, next: 1 });
      ring.describe(1, { address: at + 64, length: 513, flags: WRITE });
      ring.offer(0);
      ring.offer(0);
    },
  },
];

/** Shows what was put into the ring and waits for the back-end to deal with it. */
function provoke(play: Play, row: Hostile): Lane {
  const features = row.indirect === true ? [RingFeature.INDIRECT_DESC] : [];
  play.needsFeature(...features);
  const lane = play.running({ ringSize: SIZE });
  lane.run(2);
  const at = lane.frontend.memory.allocate(4096, 4096);
  row.fill(lane, at);
  lane.vring.ring.publish();
  lane.vring.kick.signal();
  play.pause(10);
  return lane;
}

/** Fails unless the back-end still answers on the connection, or has ended it. */
function expectAnswer(lane: Lane): void {
  try {
    lane.connection.request(M.GET_FEATURES);
  } catch (error) {
    if (!(error instanceof BackEndError) || error.fault !== "closed") throw error;
  }
}

export const hostile: readonly Check[] = [
  ...rows.map(
    (row): Check => ({
      id: `hostile.${row.name}`,
      title: `${row.title}: the program goes on and serves the next session`,
      source: row.source,
      run(play) {
        expectAnswer(provoke(play, row));
        play.expectAlive();
      },
    }),
  ),
  {
    id: "hostile.R3-indirect-not-accepted",
    title: "An indirect table without INDIRECT_DESC is not used",
    source: INDIRECTS,
    run(play) {
      const lane = play.running({ features: play.wantedFeatures(RingFeature.INDIRECT_DESC) });
      if (has(lane.frontend.features, RingFeature.INDIRECT_DESC)) fail("no INDIRECT_DESC", "it");
      lane.run(2);
      const { ring } = lane.vring;
      const before = ring.shownUsedIndex;
      lane.submit({ indirect: true });
      ring.publish();
      lane.vring.kick.signal();
      play.pause();
      if (ring.shownUsedIndex !== before) fail("no completion", "one");
      play.expectAlive();
    },
  },
  {
    id: "hostile.R9-events",
    title: "Garbage in the event fields costs notifications, not requests",
    source: "virtio 1.3 2.7.10",
    run(play) {
      play.needsFeature(RingFeature.EVENT_IDX);
      const lane = play.running({ vring: { calls: false } });
      const { ring } = lane.vring;
      const { available } = ring.place;
      for (let i = 0; i < 200; i++) {
        const event = Uint8Array.of((i * 77) & 0xff, (i * 13) & 0xff);
        lane.frontend.memory.write(available + 4 + 2 * ring.size, event);
        lane.run(1);
      }
    },
  },
  {
    id: "hostile.err-signalled",
    title: "A broken ring is told by its err descriptor, or ends the connection",
    source: "vhost-user: SET_VRING_ERR",
    run(play) {
      const lane = provoke(play, rows[0]!);
      if (lane.vring.broken(play.timeout / 4)) return;
      if (!lane.connection.endsWithin(50)) fail("err to be signalled", "nothing");
    },
  },
  {
    id: "hostile.restart-after-error",
    title: "A ring that was broken works again after it was stopped and set up anew",
    source: "vhost-user: Ring states",
    run(play) {
      const lane = provoke(play, rows[0]!);
      const { frontend } = lane;
      if (lane.connection.endsWithin(50)) return;
      for (const vring of lane.vrings) frontend.stopVring(vring);
      const again = play.lane(frontend);
      again.start();
      again.run(8);
    },
  },
];
