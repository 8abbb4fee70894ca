/** Runs in a Worker: one case of bench/ring.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { measure } from "mitata";
import { runtime } from "../../ffi/mod.ts";
import { buildTool } from "../../tests/tools/build.ts";
import { serve, walk } from "./drain.ts";
import { PackedFixture } from "./packed-fixture.ts";
import { BATCH, CAPACITY, RING_SIZE, RingFixture } from "./ring-fixture.ts";
import { type Spread, spread } from "./stats.ts";

export interface CaseOptions {
  readonly rounds: number;
  /** Nanoseconds of measuring per round and side. */
  readonly slice: number;
  readonly indirect?: boolean;
  readonly packed?: boolean;
  /** Each request's header is read and its status written, as a block device does. */
  readonly look?: boolean;
}

/** Nanoseconds per request, and our time by that of the C loop. */
export interface CaseFigures {
  readonly ours: Spread;
  readonly c: Spread;
  readonly ratio: Spread;
}

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
async function time(serve: () => number, slice: number): Promise<number> {
  if (serve() !== BATCH) throw new Error("not every request of the batch was served");
  const stats = await measure(serve, { min_cpu_time: slice });
  return stats.p50 / BATCH;
}

async function compare(options: CaseOptions): Promise<CaseFigures> {
  const { rounds, slice, indirect = false, packed = false, look = false } = options;
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
    const a = await time(serveOurs, slice);
    const b = await time(serveC, slice);
    if (round === 0) continue;
    ours.push(a);
    inC.push(b);
  }
  const ratio = ours.map((value, i) => value / inC[i]!);
  return { ours: spread(ours), c: spread(inC), ratio: spread(ratio) };
}

parentPort!.postMessage(await compare(workerData as CaseOptions));
