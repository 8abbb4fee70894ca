/** Runs `vublk_bench`, the independent vhost-user-blk front-end, and reads what it measured. */
import { spawn } from "node:child_process";
import { buildTool } from "./build.ts";

/** The line of JSON that `vublk_bench -J` prints. */
export interface VublkResult {
  readonly work: string;
  /** Bytes per request. */
  readonly bs: number;
  readonly queues: number;
  /** Requests in flight per queue. */
  readonly depth: number;
  readonly iops: number;
  readonly mib_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** CPU seconds per second of the measured time. */
  readonly backend_cpu: number;
  readonly frontend_cpu: number;
  readonly kicks: number;
  readonly calls: number;
  /** Requests completed in the measured time. */
  readonly done: number;
  /** Requests that ended with a status other than OK, and rings that closed at another index. */
  readonly failed: number;
  /** Blocks that held something else than what was written last (with -V). */
  readonly bad_data: number;
  /** Completions whose `len` is not the number of bytes the device wrote. */
  readonly odd_used_len: number;
}

export interface VublkOptions {
  /** Ends the run, and makes it an error, after so many seconds. */
  readonly limit?: number;
}

/** Connects to `socket` with the given arguments. Throws when the run could not be finished. */
export function runVublk(
  socket: string,
  args: readonly string[],
  { limit = 60 }: VublkOptions = {},
): Promise<VublkResult> {
  const program = buildTool("tests/tools/vublk_bench.c");
  const child = spawn(program, ["-s", socket, "-J", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => {
    stdout += data;
  });
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), limit * 1000);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const line = stdout.trim();
      // The exit status is 1 for failed requests too: those are counted in the result.
      if (line.startsWith("{")) return resolve(JSON.parse(line) as VublkResult);
      const how = signal === null ? `exit status ${code}` : `${signal} after ${limit} s at most`;
      reject(new Error(`vublk_bench ${args.join(" ")} ended with ${how}: ${stderr.trim()}`));
    });
  });
}
