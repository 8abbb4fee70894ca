/**
 * The demo's front-end process: verifies a served disk and measures it. Prints events as JSON.
 * Arguments: the back-end's socket, and the seconds that each measurement takes.
 */
import { BlkDriver, Journal, runWorkload, type WorkloadOptions } from "../../frontend/mod.ts";

const [socket, duration] = process.argv.slice(2) as [string, string];

/** Bytes written and verified, in requests of this size. */
const VERIFIED = 256 * 2 ** 20;
const REQUEST = 128 * 2 ** 10;
const BLOCK = 4096;

function print(event: string, data: object): void {
  console.log(JSON.stringify({ event, ...data }));
}

/** Runs a workload and reports how far it is. Throws when anything went wrong. */
function run(driver: BlkDriver, phase: string, options: WorkloadOptions) {
  const progress = ({ fraction }: { fraction: number }) => print("progress", { phase, fraction });
  const result = runWorkload(driver, { ...options, progress });
  const { failed, wrong, oddLengths } = result;
  if (failed + wrong + oddLengths > 0) {
    throw new Error(`${phase}: ${failed} requests failed, ${wrong} blocks differ`);
  }
  return result;
}

/** Writes, flushes, reads back and compares. */
function verify(): void {
  using driver = BlkDriver.connect(socket, { queues: 2, maxBytes: REQUEST });
  const blocks = VERIFIED / REQUEST;
  const journal = new Journal(REQUEST, blocks);
  const whole = { order: "sequential", blockSize: REQUEST, blocks, journal } as const;
  const begin = performance.now();
  run(driver, "writing", { operation: "write", ...whole });
  driver.flush();
  const flushed = performance.now();
  run(driver, "verifying", { operation: "read", ...whole });
  const rate = (from: number, to: number) => VERIFIED / ((to - from) / 1000);
  const rates = { writeRate: rate(begin, flushed), readRate: rate(flushed, performance.now()) };
  print("result", { size: driver.size(), verify: { bytes: VERIFIED, ...rates } });
}

/** Reads at random from what was written. */
function measure(depth: number) {
  using driver = BlkDriver.connect(socket, { depth, maxBytes: BLOCK });
  const { iops, latency } = run(driver, `queue depth ${depth}`, {
    operation: "read",
    order: "random",
    blockSize: BLOCK,
    blocks: VERIFIED / BLOCK,
    seconds: Number(duration),
    journal: null,
  });
  return { depth, iops, p50: latency.percentile(50), p99: latency.percentile(99) };
}

try {
  verify();
  print("result", { random: [1, 32, 128].map(measure) });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
