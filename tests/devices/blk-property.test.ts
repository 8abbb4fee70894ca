/** Random block requests, cut at random, against an array of bytes. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import type { Store } from "../../devices/blk/store.ts";
import { FileStore } from "../../devices/blk/stores/file.ts";
import { RamStore } from "../../devices/blk/stores/ram.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { assertBytes } from "../core/bytes.ts";
import type { TestGuest } from "../core/guest.ts";
import { BlkRequests, makeGuest, pattern, segments } from "./blk-requests.ts";

const { IN, OUT, DISCARD, WRITE_ZEROES } = RequestType;
const SECTORS = 64;
const numRuns = process.env.RINGSIDE_TEST_FULL === "1" ? 5000 : 200;

interface Act {
  readonly kind: "read" | "write" | "discard" | "zero" | "unmap";
  readonly sector: number;
  readonly count: number;
  readonly cuts: readonly number[];
}

const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom("read", "write", "write", "discard", "zero", "unmap"),
  // Some of them begin or end outside.
  sector: fc.nat({ max: SECTORS }),
  count: fc.integer({ min: 1, max: 8 }),
  cuts: fc.array(fc.nat({ max: 5000 }), { maxLength: 6 }),
});

/** Lengths that sum up to `total`, cut at these places. */
function cutAt(cuts: readonly number[], total: number): number[] {
  const places = [...cuts.map((cut) => cut % (total + 1)), 0, total].sort((a, b) => a - b);
  return places.slice(1).map((place, i) => place - places[i]!);
}

/** Discarded blocks may hold anything; both stores here make them zeros. */
function apply(disk: Uint8Array, { kind, sector, count }: Act, data: Uint8Array): void {
  if (kind === "write") disk.set(data, sector * 512);
  else if (kind !== "read") disk.fill(0, sector * 512, (sector + count) * 512);
}

function play(guest: TestGuest, store: Store, acts: readonly Act[]): void {
  const requests = new BlkRequests(store, { maxWriteZeroesSectors: 8 }, guest);
  const disk = new Uint8Array(SECTORS * 512);
  acts.forEach((act, i) => {
    const { kind, sector, count, cuts } = act;
    const data = pattern(count * 512, i + 1);
    const inside = sector + count <= SECTORS;
    const header = 16 + (kind === "write" ? data.length : kind === "read" ? 0 : 16);
    const readable = cutAt(cuts, header);
    if (kind === "read") {
      const writable = cutAt(cuts, count * 512 + 1);
      const answer = requests.send({ type: IN, sector, room: count * 512, readable, writable });
      assert.equal(answer.status, inside ? Status.OK : Status.IOERR);
      assert.equal(answer.written, inside ? count * 512 + 1 : 0);
      if (inside) assertBytes(answer.data, disk.subarray(sector * 512, (sector + count) * 512));
      return;
    }
    const flags = kind === "unmap" ? 1 : 0;
    const type = kind === "write" ? OUT : kind === "discard" ? DISCARD : WRITE_ZEROES;
    const payload = kind === "write" ? data : segments({ sector, sectors: count, flags });
    const answer = requests.send({ type, sector, data: payload, readable });
    assert.deepEqual([answer.status, answer.written], [inside ? Status.OK : Status.IOERR, 1]);
    if (inside) apply(disk, act, data);
  });
  assertBytes(requests.send({ type: IN, room: disk.length }).data, disk, "the disk");
}

describe("Random block requests", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringside-blk-"));
  const guest = makeGuest();
  after(() => {
    guest[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });
  const acts = fc.array(act, { maxLength: 20, size: "max" });

  test("make of memory what they make of an array", () => {
    fc.assert(
      fc.property(acts, (acts) => {
        using store = new RamStore(SECTORS * 512, false);
        play(guest, store, acts);
      }),
      { numRuns },
    );
  });

  for (const direct of [false, true]) {
    test(`make of a file what they make of an array${direct ? ", with O_DIRECT" : ""}`, (t) => {
      const path = join(folder, `disk-${direct}`);
      writeFileSync(path, "");
      truncateSync(path, SECTORS * 512);
      const options = { path, readOnly: false, direct, logicalBlockSize: 512 };
      try {
        new FileStore(options)[Symbol.dispose]();
      } catch (error) {
        return t.skip(`${folder} cannot do that: ${(error as Error).message}`);
      }
      fc.assert(
        fc.property(acts, (acts) => {
          truncateSync(path, 0);
          truncateSync(path, SECTORS * 512);
          using store = new FileStore(options);
          play(guest, store, acts);
        }),
        { numRuns: direct ? numRuns / 4 : numRuns },
      );
    });
  }
});
