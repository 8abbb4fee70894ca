/**
 * Reads of one queue while the flushes of another take 100 ms each: how long a read waits at most.
 * A library in the place of libc (tests/tools/uring-shim.c) makes flushes slow.
 */
import { join } from "node:path";
import { BlkDriver, BlkRequest, Histogram } from "../../frontend/mod.ts";
import { buildTool } from "../../tests/tools/build.ts";
import { type Contender, launch, ringside } from "./contenders.ts";
import { fillFile, memoryFolder, removeFolder } from "./files.ts";
import type { Report } from "./report.ts";

const FLUSH_MS = 100;
const BLOCK = 4096;
const BYTES = 64 * 2 ** 20;

interface Outcome {
  readonly reads: number;
  readonly flushes: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** One read at a time on queue 0, one flush at a time on queue 1. */
function readWhileFlushing(socket: string, seconds: number): Outcome {
  using driver = BlkDriver.connect(socket, { queues: 2, depth: 1 });
  const [reads, flushes] = driver.queues;
  const times = new Histogram();
  const end = performance.now() + seconds * 1000;
  let flushed = 0;
  let flushing = false;
  const takeFlush = (): void => {
    const slot = flushes!.take();
    if (slot < 0) return;
    flushes!.release(slot);
    flushing = false;
    flushed++;
  };
  for (let block = 0; performance.now() < end; block = (block * 7 + 1) % (BYTES / BLOCK)) {
    if (!flushing) {
      flushes!.submit(flushes!.acquire(), BlkRequest.FLUSH, 0, 0);
      flushes!.publish();
      flushing = true;
    }
    const slot = reads!.acquire();
    const start = performance.now();
    reads!.submit(slot, BlkRequest.IN, block * (BLOCK / 512), BLOCK);
    reads!.publish();
    let done = reads!.take();
    while (done < 0 && reads!.wait()) done = reads!.take();
    times.record(performance.now() - start);
    reads!.release(done);
    takeFlush();
  }
  while (flushing && flushes!.wait()) takeFlush();
  return {
    reads: times.count,
    flushes: flushed,
    p50: times.percentile(50),
    p99: times.percentile(99),
    max: times.max,
  };
}

/** Ours with each way to flush. */
function contenders(runtimes: readonly string[]): Contender[] {
  const slow = {
    RINGSIDE_LIBC: buildTool("tests/tools/uring-shim.c", { shared: true }),
    RINGSIDE_SYNC_MS: `${FLUSH_MS}`,
  };
  return runtimes.flatMap((runtime) =>
    ["io_uring", "preadv"].map((aio) => {
      const contender = ringside(runtime, { options: [`--aio=${aio}`] });
      return {
        ...contender,
        name: `ringside, ${runtime}, ${aio}`,
        env: { ...contender.env, ...slow },
      };
    }),
  );
}

export async function measureFlush(
  report: Report,
  runtimes: readonly string[],
  quick: boolean,
): Promise<void> {
  const seconds = quick ? 0.5 : 3;
  const folder = memoryFolder();
  const rows = [];
  try {
    const file = join(folder, "disk.img");
    fillFile(file, BYTES);
    for (const [i, contender] of contenders(runtimes).entries()) {
      const program = await launch(contender, join(folder, `${i}.sock`), file);
      try {
        const { reads, flushes, p50, p99, max } = readWhileFlushing(program.socket, seconds);
        rows.push({
          "back-end": contender.name,
          flushes,
          "reads/s": Math.round(reads / seconds),
          "p50 us": p50.toFixed(0),
          "p99 us": p99.toFixed(0),
          "longest, ms": (max / 1000).toFixed(1),
        });
      } finally {
        await program.stop();
      }
    }
  } finally {
    removeFolder(folder);
  }
  const title = `Reads of one queue while flushes of another take ${FLUSH_MS} ms, for ${seconds} s`;
  report.section(title, rows, rows);
}
