/**
 * How much a piece of code allocates, as exactly as each runtime tells.
 *
 * V8 counts every byte it hands out. JavaScriptCore does not, but lists the objects of its heap,
 * dead ones included until the next collection: the increase over a slice that is too short to
 * cause a collection is the number of objects made in it.
 */
import { runtime } from "../../ffi/mod.ts";

/** Milliseconds before measuring: the compilers allocate while they learn what the code does. */
const WARM_UP = 400;

export interface Allocation {
  /** What `perRequest` counts. */
  readonly unit: "bytes" | "objects";
  readonly perRequest: number;
  /** Bytes by which the heap grew from the first to the last forced collection. */
  readonly growth: number;
}

export interface Meter {
  readonly unit: Allocation["unit"];
  /** Requests after which `allocated` must be asked again. */
  readonly slice: number;
  /** What was allocated since the last call, less what measuring itself costs. */
  allocated(): number;
  /** Bytes in use after a full collection. */
  used(): number;
}

async function bunMeter(): Promise<Meter> {
  const { heapStats, fullGC } = await import("bun:jsc");
  const count = () => {
    let sum = 0;
    const counts: Record<string, number> = heapStats().objectTypeCounts;
    for (const type in counts) sum += counts[type]!;
    return sum;
  };
  let last = count();
  let own = count() - last;
  for (let i = 0; i < 20; i++) {
    last = count();
    own = Math.max(own, count() - last);
  }
  last = count();
  return {
    unit: "objects",
    slice: 20_000,
    allocated() {
      const now = count();
      // Fewer than before: a collection came between, and what it took away is not known.
      const made = Math.max(0, now - last - own);
      last = count();
      return made;
    },
    used() {
      fullGC();
      return heapStats().heapSize;
    },
  };
}

async function denoMeter(): Promise<Meter> {
  const { getHeapStatistics } = await import("node:v8");
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) throw new Error("Start Deno with --v8-flags=--expose-gc");
  const total = () =>
    (getHeapStatistics() as unknown as { total_allocated_bytes: number }).total_allocated_bytes;
  let last = total();
  return {
    unit: "bytes",
    // The count is exact to some 100 KB: it must be asked seldom.
    slice: 1_000_000,
    allocated() {
      const now = total();
      const made = now - last;
      last = total();
      return made;
    },
    used() {
      collect();
      return getHeapStatistics().used_heap_size;
    },
  };
}

export function makeMeter(): Promise<Meter> {
  return runtime.name === "bun" ? bunMeter() : denoMeter();
}

/** Measures `serve`, which handles some requests and tells how many, over `total` requests. */
export function measureAllocation(meter: Meter, total: number, serve: () => number): Allocation {
  for (const start = performance.now(); performance.now() - start < WARM_UP; ) serve();
  const before = meter.used();
  let made = 0;
  meter.allocated();
  let done = 0;
  while (done < total) {
    for (const end = done + Math.min(meter.slice, total); done < end; ) done += serve();
    made += meter.allocated();
  }
  return { unit: meter.unit, perRequest: made / done, growth: meter.used() - before };
}
