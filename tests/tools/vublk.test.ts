/**
 * The block program against an independent front-end written in C: every request succeeds, every
 * byte read back is the one written last, every completion says how much was written.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { compilerMissing } from "./build.ts";
import { blkProgram, type Program, startBlk } from "./process.ts";
import { runVublk } from "./vublk.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const time = full ? ["-t", "10"] : ["-t", "0.15", "-W", "0.05"];
/** Milliseconds for one run, the reading of every block at its end included. */
const limit = full ? 60_000 : 20_000;
const size = 64 * 2 ** 20;

/** Arguments that are added to, or override, `-w mixed -q 4 -d 64`. */
const loads = [
  "",
  "-I",
  "-E",
  "-R 1024",
  "-b 512",
  "-b 128k",
  "-S 8",
  "-F 16",
  "-I -E",
  "-I -S 8 -b 32k",
  "-S 8 -b 128k -R 512",
  "-E -F 16 -b 512 -R 1024",
  "-I -E -F 4 -S 3 -b 1536",
  "-q 1 -d 1",
  "-q 8 -d 128 -b 1k -j 2",
  "-q 2 -d 32 -p",
  "-w write -q 1",
  "-w randread -q 2 -d 128",
];

/** The words of `load`; `-V` makes the front-end check every byte. */
function argumentsOf(load: string, verify: boolean): string[] {
  const words = load.split(" ").filter((word) => word !== "");
  return ["-w", "mixed", "-q", "4", "-d", "64", ...time, ...(verify ? ["-V"] : []), ...words];
}

function skipReason(): string | false {
  if (!existsSync(blkProgram)) return `${blkProgram} is not there`;
  return compilerMissing() ?? false;
}

const skip = skipReason();

describe("vhost-user-blk serves an independent front-end", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "ringside-vublk-"));
  const image = join(folder, "disk.img");

  before(() => {
    writeFileSync(image, "");
    truncateSync(image, size);
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const store of ["file", "ram", "null"]) {
    describe(`from a ${store} store`, () => {
      let backend: Program;

      before(async () => {
        const socket = join(folder, `${store}.sock`);
        const blkFile = store === "file" ? image : `${store}:${size}`;
        backend = await startBlk(runtime.name, socket, blkFile);
      });

      after(async () => {
        await backend.stop("SIGKILL");
      });

      for (const load of loads) {
        test(`with ${load || "the default load"}`, { timeout: limit }, async () => {
          const args = argumentsOf(load, store !== "null");
          const result = await runVublk(backend.socket, args, { limit: limit / 1000 });
          assert.ok(result.done > 0, "no request was completed");
          assert.equal(result.failed, 0, "requests that failed");
          assert.equal(result.bad_data, 0, "blocks with wrong data");
          assert.equal(result.odd_used_len, 0, "completions with a wrong length");
        });
      }

      test("and ends when asked, having complained of nothing", { timeout: limit }, async () => {
        assert.deepEqual(await backend.stop(), { code: 0, signal: null });
        assert.doesNotMatch(backend.stderr, /error|warn/i);
      });
    });
  }
});
