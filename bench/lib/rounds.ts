/** Runs one load on several back-ends in turns: A B C, A B C, ... */
import type { Program } from "../../tests/tools/process.ts";
import { runVublk, type VublkResult } from "../../tests/tools/vublk.ts";
import { median, type Spread, spread } from "./stats.ts";

/** What a back-end did in all its runs of one load. */
export interface Figures {
  readonly name: string;
  readonly ours: boolean;
  /** Requests per second. */
  readonly iops: Spread;
  /** Microseconds of processor time that the back-end spent per request. */
  readonly cpu: Spread;
  /** Microseconds from submission to completion. */
  readonly p50: number;
  readonly p99: number;
  /** Notifications by the front-end and by the back-end, per request. */
  readonly kicks: number;
  readonly calls: number;
  readonly runs: readonly VublkResult[];
}

/** A running back-end. */
export interface Competitor {
  readonly name: string;
  readonly ours: boolean;
  readonly program: Program;
}

/** Seconds of load before each measurement. */
const WARM_UP = 0.3;

function summarize(
  { name, ours }: Competitor,
  runs: readonly VublkResult[],
  seconds: number,
): Figures {
  const each = (figure: (run: VublkResult) => number) => runs.map(figure);
  // Notifications are counted during the warm-up too, requests are not.
  const share = seconds / (seconds + WARM_UP);
  return {
    name,
    ours,
    iops: spread(each((run) => run.iops)),
    cpu: spread(each((run) => (run.backend_cpu / run.iops) * 1e6)),
    p50: median(each((run) => run.p50_us)),
    p99: median(each((run) => run.p99_us)),
    kicks: median(each((run) => (run.kicks * share) / run.done)),
    calls: median(each((run) => (run.calls * share) / run.done)),
    runs,
  };
}

/**
 * Each run measures for `seconds`. Throws when a request failed: figures of a broken
 * back-end mean nothing.
 */
export async function takeTurns(
  competitors: readonly Competitor[],
  args: readonly string[],
  rounds: number,
  seconds: number,
  progress: (done: number) => void = () => {},
): Promise<Figures[]> {
  const runs: VublkResult[][] = competitors.map(() => []);
  const timed = [...args, "-t", `${seconds}`, "-W", `${WARM_UP}`];
  for (let round = 0; round < rounds; round++) {
    for (const [i, { name, program }] of competitors.entries()) {
      const result = await runVublk(program.socket, timed);
      if (result.failed > 0 || result.odd_used_len > 0) {
        throw new Error(`${name}: ${result.failed} requests failed: ${program.stderr}`);
      }
      runs[i]!.push(result);
      progress(round * competitors.length + i + 1);
    }
  }
  return competitors.map((competitor, i) => summarize(competitor, runs[i]!, seconds));
}
