/** Guest memory: tables, slots, buffers across regions, and rows M1 to M5. */
import { ProtocolFeature } from "../../../core/protocol.ts";
import { createMemfd, type Fd, O_RDONLY, openFile, socketPair } from "../../../ffi/mod.ts";
import type { Frontend } from "../../frontend.ts";
import type { GuestRegion } from "../../guest-memory.ts";
import { fieldsOf } from "../../memory-messages.ts";
import { memoryTable, type RegionFields, singleRegion } from "../../raw-regions.ts";
import { type Check, fail } from "../check.ts";
import type { Play } from "../play.ts";
import { askU64, expectDenied, expectTaken, M, tell } from "../wire.ts";

const P = ProtocolFeature;
const TABLE = "vhost-user: SET_MEM_TABLE";
const ADD = "vhost-user: ADD_MEM_REG";
const REMOVE = "vhost-user: REM_MEM_REG";
const REGIONS = "vhost-user: Memory region description";
const MIB = 2 ** 20;

/** A table that is refused; the program lives on. */
function refuseTable(
  play: Play,
  what: string,
  regions: readonly RegionFields[],
  options: { readonly count?: number; readonly fds?: readonly Fd[] } = {},
): void {
  using fd = createMemfd("ringside-guest", 4 * MIB);
  const fds = options.fds ?? regions.map(() => fd);
  const connection = play.greet();
  expectDenied(connection, what, M.SET_MEM_TABLE, memoryTable(regions, options.count), fds);
  play.expectAlive();
}

const one: RegionFields = { guest: 0x10000000, size: MIB, user: 0x7000_0000_0000 };
const PAGES = 4096;

/** Tables that name what cannot be. */
const badTables: readonly (readonly [
  name: string,
  title: string,
  regions: readonly RegionFields[],
  count?: number,
])[] = [
  ["M1-count", "A table of 2^32-1 regions is refused", [one], 0xffffffff],
  [
    "M1-nine",
    "A table of nine regions is refused",
    Array.from({ length: 9 }, (_, i) => ({
      guest: i * MIB,
      size: MIB,
      user: 0x7000_0000_0000 + i * MIB,
    })),
  ],
  ["M1-short", "A table that is shorter than it says is refused", [one], 3],
  ["M2-size-0", "A region of size 0 is refused", [{ ...one, size: 0 }]],
  ["M2-guest-wrap", "A region that wraps guest addresses is refused", [wrap("guest")]],
  ["M2-user-wrap", "A region that wraps user addresses is refused", [wrap("user")]],
  ["M2-offset-wrap", "A region that wraps offsets in its file is refused", [wrap("offset")]],
  [
    "M2-beyond-file",
    "A region that is larger than its file is refused",
    [{ ...one, size: 8 * MIB }],
  ],
  [
    "M3-guest-overlap",
    "Regions that overlap in guest addresses are refused",
    [one, { ...one, guest: 0x10000000 + MIB / 2, user: 0x7100_0000_0000 }],
  ],
  [
    "M3-user-overlap",
    "Regions that overlap in user addresses are refused",
    [one, { ...one, guest: 0x20000000, user: 0x7000_0000_0000 + MIB / 2 }],
  ],
];

function wrap(field: "guest" | "user" | "offset"): RegionFields {
  return { ...one, [field]: 0xffff_ffff_ffff_f000n, size: 2 * PAGES };
}

/** Requests whose buffers lie across the border of two regions. */
function straddle(play: Play, share: "table" | "slots"): void {
  const lane = play.running({ share, memory: { regions: 2, size: 4 * MIB, margin: PAGES } });
  const border = lane.frontend.memory.regions[1]!.plan.guestAddress;
  for (const before of [1, 7, 100]) {
    const { out, room } = lane.exercise.request(0);
    if (room > before) {
      lane.submit({ answerAt: border - before });
      lane.publish();
      lane.finish();
    }
    if (out.length > before) {
      lane.submit({ requestAt: border - before });
      lane.publish();
      lane.finish();
    }
  }
}

export const memory: readonly Check[] = [
  {
    id: "memory.table-of-eight",
    title: "A table of eight regions is usable",
    source: TABLE,
    run(play) {
      const lane = play.running({ share: "table", memory: { regions: 8, size: 2 * MIB } });
      inEach(lane.frontend.memory.regions, (at) => {
        lane.submit({ answerAt: at, requestAt: at + PAGES });
        lane.publish();
        lane.finish();
      });
    },
  },
  {
    id: "memory.one-file",
    title: "Regions that lie at different offsets of one file",
    source: REGIONS,
    run(play) {
      const memory = { regions: 4, size: 2 * MIB, oneFile: true };
      play.running({ share: "table", memory }).run(40, { depth: 8 });
    },
  },
  {
    id: "memory.R4-straddle-table",
    title: "Buffers that cross from one region into the next are whole (one table)",
    source: "virtio 1.3 2.7.5",
    run: (play) => straddle(play, "table"),
  },
  {
    id: "memory.R4-straddle-slots",
    title: "Buffers that cross from one region into the next are whole (slots)",
    source: "virtio 1.3 2.7.5",
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      straddle(play, "slots");
    },
  },
  {
    id: "memory.table-replaced",
    title: "A larger table sent while rings run is used at once",
    source: TABLE,
    run(play) {
      const lane = play.running({ share: "table" });
      lane.run(4);
      const { frontend } = lane;
      const region = frontend.memory.append(MIB);
      frontend.replaceMemory();
      lane.submit({ answerAt: region.plan.guestAddress, requestAt: region.end - PAGES });
      lane.publish();
      lane.finish();
      lane.run(4);
    },
  },
  {
    id: "memory.table-replaced-often",
    title: "200 memory tables in a row, with requests in between",
    source: TABLE,
    run(play) {
      const lane = play.running({ share: "table" });
      for (let i = 0; i < 200; i++) {
        lane.frontend.replaceMemory();
        if (i % 10 === 0) lane.run(2);
      }
    },
  },
  {
    id: "memory.slot-count",
    title: "GET_MAX_MEM_SLOTS names at least one slot",
    source: "vhost-user: GET_MAX_MEM_SLOTS",
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const slots = askU64(play.greet(), M.GET_MAX_MEM_SLOTS);
      if (slots < 1n) fail("at least 1", `${slots}`);
    },
  },
  {
    id: "memory.slots-used",
    title: "As many regions as there are slots, up to 32, can be added",
    source: ADD,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const frontend = play.guest({ share: "slots" });
      const slots = Number(askU64(frontend.connection, M.GET_MAX_MEM_SLOTS));
      for (let i = 1; i < Math.min(32, slots); i++) frontend.addRegion(MIB);
    },
  },
  {
    id: "memory.add-running",
    title: "A region that is added while rings run is used at once",
    source: ADD,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const lane = play.running({ share: "slots" });
      lane.run(4);
      for (let i = 0; i < 4; i++) {
        const { plan, end } = lane.frontend.addRegion(MIB);
        lane.submit({ answerAt: plan.guestAddress, requestAt: end - PAGES });
        lane.publish();
        lane.finish();
      }
    },
  },
  {
    id: "memory.remove-running",
    title: "Regions come and go while rings run",
    source: REMOVE,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const lane = play.running({ share: "slots" });
      for (let i = 0; i < 50; i++) {
        const region = lane.frontend.addRegion(MIB);
        lane.submit({ answerAt: region.plan.guestAddress });
        lane.publish();
        lane.finish();
        lane.frontend.removeRegion(region);
        lane.run(2);
      }
    },
  },
  {
    id: "memory.M4-remove-other-offset",
    title: "REM_MEM_REG finds a region by addresses and size, whatever the offset",
    source: REMOVE,
    run(play) {
      const { frontend, region } = withRegion(play);
      const payload = singleRegion({ ...fieldsOf(region), offset: 0x123000 });
      expectTaken(frontend.connection, "another offset", M.REM_MEM_REG, payload);
    },
  },
  {
    id: "memory.M4-remove-unknown",
    title: "REM_MEM_REG of a region that is not there is refused",
    source: REMOVE,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const { connection } = play.guest({ share: "slots" });
      expectDenied(connection, "an unknown region", M.REM_MEM_REG, singleRegion(one));
      play.expectAlive();
    },
  },
  {
    id: "memory.M4-add-twice",
    title: "ADD_MEM_REG of a region that is there already is refused",
    source: REGIONS,
    run(play) {
      const { frontend, region } = withRegion(play);
      const payload = singleRegion(fieldsOf(region));
      expectDenied(frontend.connection, "the second", M.ADD_MEM_REG, payload, [region.fd]);
      play.expectAlive();
    },
  },
  {
    id: "memory.M4-too-many",
    title: "ADD_MEM_REG beyond the last slot is refused",
    source: ADD,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const connection = play.greet();
      const slots = Number(askU64(connection, M.GET_MAX_MEM_SLOTS));
      using fd = createMemfd("ringside-guest", PAGES);
      for (let i = 0; i <= Math.min(slots, 2000); i++) {
        const region = {
          guest: i * 2 * PAGES,
          size: PAGES,
          user: 0x7000_0000_0000 + i * 2 * PAGES,
        };
        const answer = tell(connection, M.ADD_MEM_REG, singleRegion(region), [fd]);
        const denied = answer === "refused" || answer === "closed";
        if (denied && i < Math.min(8, slots)) fail(`${slots} regions`, `${i}`);
        if (denied) return play.expectAlive();
      }
      if (connection.acknowledged) fail(`${slots} regions at most`, `${slots + 1}`);
    },
  },
  {
    id: "memory.M4-remove-with-fd",
    title: "A descriptor that comes with REM_MEM_REG is closed",
    source: REMOVE,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      play.expectNoLeak(20, () => {
        const { frontend, region } = withRegion(play);
        tell(frontend.connection, M.REM_MEM_REG, singleRegion(fieldsOf(region)), [region.fd]);
      });
    },
  },
  {
    id: "memory.M4-remove-in-use",
    title: "Removing the memory of a running ring ends neither the program nor the next session",
    source: REMOVE,
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const lane = play.running({ share: "slots" });
      const [region] = lane.frontend.memory.regions;
      tell(lane.connection, M.REM_MEM_REG, singleRegion(fieldsOf(region!)));
      lane.submit();
      lane.forceKick();
      play.pause();
      play.expectAlive();
    },
  },
  {
    id: "memory.M5-directory",
    title: "A directory in place of memory is refused",
    source: TABLE,
    run(play) {
      using fd = openFile("/", O_RDONLY);
      refuseTable(play, "a directory", [one], { fds: [fd] });
    },
  },
  {
    id: "memory.M5-socket",
    title: "A socket in place of memory is refused",
    source: TABLE,
    run(play) {
      const [a, b] = socketPair();
      play.keep(b);
      refuseTable(play, "a socket", [one], { fds: [play.keep(a)] });
    },
  },
  ...badTables.map(
    ([name, title, regions, count]): Check => ({
      id: `memory.${name}`,
      title,
      source: name.startsWith("M1") ? TABLE : REGIONS,
      run: (play) => refuseTable(play, name, regions, count === undefined ? {} : { count }),
    }),
  ),
];

/** A guest with a region more than it begins with. */
function withRegion(play: Play): { readonly frontend: Frontend; readonly region: GuestRegion } {
  play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
  const frontend = play.guest({ share: "slots" });
  return { frontend, region: frontend.addRegion(MIB) };
}

/** Calls `use` with an address near the end of each region, where nothing was allocated. */
function inEach(regions: readonly GuestRegion[], use: (address: number) => void): void {
  for (const { end } of regions) use(end - 4 * PAGES);
}
