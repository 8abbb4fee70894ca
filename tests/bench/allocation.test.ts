/**
 * The data plane makes no object per request: neither the rings, nor the block and network
 * devices, nor the whole back-end on its socket. bench/allocation.ts measures that in a process of its own.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Allocation } from "../../bench/lib/heap.ts";
import { runtime } from "../../ffi/mod.ts";
import { repository } from "../guest/lab.ts";
import { start } from "../guest/processes.ts";
import { compilerMissing } from "../tools/build.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
/** V8's count is exact to some 100 KB. */
const requests = full || runtime.name === "deno" ? 1_000_000 : 200_000;
/** Milliseconds for measuring. */
const patience = 100_000;
/** Bytes that the heap may grow in all: far less than one per request. */
const growthLimit = 2 ** 20;

/** What one object per request amounts to at least: V8's smallest objects have 24 bytes. */
const object = { bytes: 24, objects: 0.3 };
/** With wake-ups, of which a busy machine needs one per request, there are a timer and a callback. */
const wakeUp = { bytes: 256, objects: 1 };

const cases = [
  { name: "ring, direct", limit: object },
  { name: "ring, indirect", limit: object },
  { name: "ring, direct, IOMMU", limit: object },
  { name: "ring, indirect, IOMMU", limit: object },
  { name: "blk, null, reads", limit: object },
  { name: "blk, null, writes", limit: object },
  { name: "blk, ram, reads", limit: object },
  { name: "blk, ram, writes", limit: object },
  { name: "blk, file, reads", limit: object },
  { name: "blk, file, writes", limit: object },
  { name: "net, null", limit: object },
  { name: "net, loopback", limit: object },
  { name: "net, switch", limit: object },
  { name: "program, file, mixed, depth 64", limit: wakeUp },
];

async function measure(): Promise<Record<string, Allocation>> {
  const deno = ["run", "-A", "--no-check", "--v8-flags=--expose-gc"];
  const command = [
    process.execPath,
    ...(runtime.name === "deno" ? deno : []),
    join(repository, "bench/allocation.ts"),
    "--json",
    `--requests=${requests}`,
  ];
  const child = start("bench/allocation.ts", command);
  const timer = setTimeout(() => child.stop("SIGKILL"), patience);
  const status = await child.ended;
  clearTimeout(timer);
  assert.equal(status, 0, child.log());
  return JSON.parse(child.log());
}

let measuring: Promise<Record<string, Allocation>> | null = null;

/** Starts measuring when the first test asks, which then has the time for it. */
function measured(): Promise<Record<string, Allocation>> {
  measuring ??= measure();
  return measuring;
}

const skip = compilerMissing() ?? false;

describe("serving requests allocates nothing", { skip }, () => {
  test("and an object per request would be seen", { timeout: patience + 5_000 }, async () => {
    const { unit, perRequest } = (await measured())["control: one object per request"]!;
    assert.ok(perRequest > object[unit], `${perRequest} ${unit} per request`);
  });

  for (const { name, limit } of cases) {
    test(name, { timeout: patience + 5_000 }, async () => {
      const { unit, perRequest, growth } = (await measured())[name]!;
      assert.ok(growth < growthLimit, `the heap grew by ${growth} bytes`);
      assert.ok(perRequest < limit[unit], `${perRequest} ${unit} per request`);
    });
  }
});
