/**
 * Walking a ring: our queues and chain against a C loop with the same checks on a split ring, in
 * turns. One figure is the time of one request of three descriptors (16-byte header,
 * 4 KiB of data, status) from the available ring to the used ring, without touching the data.
 */
import { parseArgs } from "node:util";
import { measure } from "mitata";
import { runtime } from "../ffi/mod.ts";
import { buildTool } from "../tests/tools/build.ts";
import { serve, walk } from "./lib/drain.ts";
import { PackedFixture } from "./lib/packed-fixture.ts";
import { Report } from "./lib/report.ts";
import { BATCH, CAPACITY, RING_SIZE, RingFixture } from "./lib/ring-fixture.ts";
import { type Spread, spread } from "./lib/stats.ts";

const { values: options } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
const rounds = options.quick ? 3 : 9;
/** Nanoseconds of measuring per round and side. */
const slice = options.quick ? 50e6 : 300e6;

/** The largest ratio to the C loop that the design allows. */
const TARGET = 2.5;

const c = runtime.bind(buildTool("bench/c/ring.c", { shared: true }), {
  // int ring_setup(const uint64_t *setup)
  ring_setup: { args: ["buffer"], result: "i32" },
  // int ring_drain(int look)
  ring_drain: { args: ["i32"], result: "i32" },
});

function setUpC({ addresses, indirect, memory }: RingFixture): void {
  const { descriptor, available, used } = addresses;
  const regions = memory.regions.flatMap(({ spec, host }) => [spec.guestAddress, spec.size, host]);
  const head = [descriptor, available, used, RING_SIZE, 0, Number(indirect), 1, CAPACITY];
  const words = [...head, memory.regions.length, ...regions];
  const setup = new BigUint64Array(new ArrayBuffer(words.length * 8));
  words.forEach((word, i) => {
    setup[i] = BigInt(word);
  });
  if (c.ring_setup(setup) < 0) throw new Error("bench/c/ring.c refuses the ring");
}

/** Times `serve` in nanoseconds per request. */
async function time(serve: () => number): Promise<number> {
  if (serve() !== BATCH) throw new Error("not every request of the batch was served");
  const stats = await measure(serve, { min_cpu_time: slice });
  return stats.p50 / BATCH;
}

interface Case {
  readonly name: string;
  readonly look: boolean;
  readonly ours: Spread;
  readonly c: Spread;
  readonly ratio: Spread;
}

/** `look`: each request's header is read and its status written, as a block device does. */
async function compare(
  name: string,
  indirect: boolean,
  look: boolean,
  packed = false,
): Promise<Case> {
  using mine = packed ? new PackedFixture({ indirect }) : new RingFixture({ indirect });
  using theirs = new RingFixture({ indirect });
  const queue = mine.makeQueue(() => {});
  setUpC(theirs);
  const serveOurs = () => {
    mine.offer();
    return look ? serve(queue) : walk(queue);
  };
  const serveC = () => {
    theirs.offer();
    return c.ring_drain(look ? 1 : 0);
  };
  const ours: number[] = [];
  const inC: number[] = [];
  // The first round lets the compilers finish.
  for (let round = 0; round <= rounds; round++) {
    const a = await time(serveOurs);
    const b = await time(serveC);
    if (round === 0) continue;
    ours.push(a);
    inC.push(b);
  }
  const ratio = ours.map((value, i) => value / inC[i]!);
  return { name, look, ours: spread(ours), c: spread(inC), ratio: spread(ratio) };
}

const cases = [
  await compare("direct", false, false),
  await compare("indirect", true, false),
  await compare("direct, with header and status", false, true),
  await compare("indirect, with header and status", true, true),
  await compare("packed, direct", false, false, true),
  await compare("packed, indirect", true, false, true),
  await compare("packed, direct, with header and status", false, true, true),
  await compare("packed, indirect, with header and status", true, true, true),
];
const show = ({ median, min, max }: Spread) =>
  `${median.toFixed(1)} (${min.toFixed(1)} - ${max.toFixed(1)})`;
const report = new Report(`ring-${runtime.name}`);
report.section(
  `Ring walking under ${runtime.name} ${runtime.version}, ns per request of 3 descriptors, ` +
    `median (min - max) of ${rounds}`,
  cases.map((row) => ({
    ring: row.name,
    ours: show(row.ours),
    "C loop": show(row.c),
    ratio: row.ratio.median.toFixed(2),
    // What reading headers costs is for information: the target is about walking.
    [`target <= ${TARGET}`]: row.look ? "" : row.ratio.median <= TARGET ? "met" : "MISSED",
  })),
  cases,
);
if (!options.quick) report.save();
