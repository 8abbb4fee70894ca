/** `vhost-user-blk` for tests. */

import assert from "node:assert/strict";
import { runtime } from "../../ffi/mod.ts";
import type { WorkloadResult } from "../../frontend/mod.ts";
import {
  BlkDriver,
  type BlkOptions,
  type BlkQueue,
  Journal,
  runWorkload,
} from "../../frontend/mod.ts";
import { programOf } from "./process-status.ts";
import { launcher, Program, type ProgramOptions } from "./program.ts";

export const MIB = 2 ** 20;
export const BLOCK = 4096;

/** Starts the program on `store`, a path or `ram:SIZE`. */
export function serveBlk(
  store: string,
  args: readonly string[] = [],
  options: ProgramOptions = {},
): Program {
  const command = [launcher("vhost-user-blk"), "--socket-path=SOCKET", `--blk-file=${store}`];
  const program = new Program([...command, ...args], options);
  assert.match(programOf(program.pid), new RegExp(runtime.name), "both sides have one runtime");
  return program;
}

/** Asserts that a workload went well. */
export function assertClean(result: WorkloadResult, requests = result.requests): void {
  const { failed, wrong, oddLengths } = result;
  assert.deepEqual(
    { requests: result.requests, failed, wrong, oddLengths },
    { requests, failed: 0, wrong: 0, oddLengths: 0 },
  );
}

export interface VerifyOptions {
  readonly blocks?: number;
  readonly blockSize?: number;
  /** Reads and writes between filling the disk and comparing it. */
  readonly mixed?: number;
}

/** Writes `blocks` blocks, reads and overwrites some at random, and compares all of them. */
export function verifyDriver(
  driver: BlkDriver,
  { blocks = 256, blockSize = BLOCK, mixed = 1000 }: VerifyOptions = {},
): Journal {
  const journal = new Journal(blockSize, blocks);
  const common = { blockSize, blocks, journal };
  const all = { order: "sequential", requests: blocks } as const;
  const random = { order: "random", requests: mixed } as const;
  assertClean(runWorkload(driver, { operation: "write", ...common, ...all }), blocks);
  assertClean(runWorkload(driver, { operation: "mixed", ...common, ...random }), mixed);
  compare(driver, journal);
  return journal;
}

/** Reads all blocks of a journal and compares them. */
export function compare(driver: BlkDriver, journal: Journal): void {
  const { blocks, blockSize } = journal;
  const all = { order: "sequential", requests: blocks } as const;
  assertClean(
    runWorkload(driver, { operation: "read", ...all, blocks, blockSize, journal }),
    blocks,
  );
}

/** Connects, verifies, and disconnects. */
export function verifySocket(socket: string, options: BlkOptions = {}, what?: VerifyOptions): void {
  using driver = BlkDriver.connect(socket, options);
  verifyDriver(driver, what);
}

/** Makes the whole disk zeros, as a new journal expects it. */
export function blank(driver: BlkDriver): void {
  driver.discard([{ sector: 0, sectors: Number(driver.config().capacity) }]);
}

/** Takes what a queue has completed; `each` gets the slots, which are released after it. */
export function take(queue: BlkQueue, each: (slot: number) => void = () => {}): number {
  let count = 0;
  for (let slot = queue.take(); slot >= 0; slot = queue.take(), count++) {
    each(slot);
    queue.release(slot);
  }
  return count;
}

/** Waits until nothing is in flight on a queue. */
export function drain(queue: BlkQueue, each?: (slot: number) => void): void {
  while (queue.inFlight > 0) {
    assert.ok(queue.wait(), "the requests in flight are completed");
    take(queue, each);
  }
}
