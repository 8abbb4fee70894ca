/**
 * A guest that moves from one QEMU to another while its disk is in use, each with a back-end of its
 * own on one image.
 *
 * What tells whether the dirty log works: pages that only the back-end writes, after the first pass.
 * The guest reads a part of the disk into its page cache then. The kernel does not clear those pages
 * first (init_on_alloc=0), and the disk is held open, so that they stay cached. After the move the
 * cache must hold what the disk holds.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, readSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BackEnd, type BlkOptions, startBlk } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { type Scenario, scenario } from "./scenario.ts";
import { sleep } from "./wait.ts";

const MiB = 1024 * 1024;
/** What is read while the guest moves, in MiB; behind it the guest writes. */
const READ = full ? 128 : 64;
/** MiB that the guest writes over and over, each time in another order. */
const CHUNKS = 32;
/** Bytes a second: slow enough for a pass to take a while. */
const BANDWIDTH = 30 * MiB;
const slow = { timeoutMs: 120_000 };

export interface Move {
  readonly packed: boolean;
  /** False: the back-end marks nothing, and the guest must not get away with it. */
  readonly marks: boolean;
}

interface RamStatus {
  readonly status: string;
  readonly ram?: { readonly "dirty-sync-count": number };
  readonly downtime?: number;
}

const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

function part(file: string, at: number, bytes: number): Uint8Array {
  const data = Buffer.alloc(bytes);
  const fd = openSync(file, "r");
  assert.equal(readSync(fd, data, 0, bytes, at), bytes);
  closeSync(fd);
  return data;
}

class Migration {
  readonly #scenario: Scenario;
  readonly #move: Move;
  readonly #file: string;
  #source!: Guest;
  #target!: Guest;
  #sourceBackEnd!: BackEnd;

  constructor(scene: Scenario, move: Move) {
    this.#scenario = scene;
    this.#move = move;
    this.#file = join(scene.folder, "disk.img");
  }

  async #side(name: string): Promise<{ backEnd: BackEnd; devices: string[]; folder: string }> {
    const folder = join(this.#scenario.folder, name);
    mkdirSync(folder);
    const { packed, marks } = this.#move;
    const options: BlkOptions = { file: this.#file, queues: 2 };
    if (!marks) options.plugin = "unmarked-disk.ts";
    const backEnd = this.#scenario.owns(
      `${name} back-end`,
      await startBlk(join(folder, "blk"), options),
    );
    const devices = [
      ...["-chardev", `socket,id=c0,path=${backEnd.socket}`],
      ...["-device", `vhost-user-blk-pci,chardev=c0,num-queues=2,packed=${packed ? "on" : "off"}`],
    ];
    return { backEnd, devices, folder };
  }

  async begin(): Promise<void> {
    writeFileSync(this.#file, randomBytes(READ * MiB));
    truncateSync(this.#file, (READ + CHUNKS) * MiB);
    const kernelArguments = "init_on_alloc=0";
    const source = await this.#side("source");
    this.#sourceBackEnd = source.backEnd;
    const boot = bootGuest({ ...source, kernelArguments });
    this.#source = this.#scenario.owns("source", await boot);
    const target = await this.#side("target");
    this.#target = this.#scenario.owns(
      "target",
      await bootGuest({ ...target, kernelArguments, incoming: true }),
    );
    const features = await this.#source.run("cat /sys/block/vda/device/features");
    assert.equal(features[34] === "1", this.#move.packed, features);
  }

  /** Work that keeps memory changing, and the disk. */
  async work(): Promise<void> {
    const guest = this.#source;
    await guest.run("(sleep 100000 </dev/vda >/dev/null 2>&1 &)");
    await guest.run(
      `head -c ${CHUNKS * MiB} /dev/urandom >/tmp/noise; touch /tmp/busy /tmp/dirtying`,
      slow,
    );
    await guest.run(
      "(while [ -e /tmp/dirtying ]; do cat /tmp/noise >/tmp/dirt; done >/dev/null 2>&1 &)",
    );
    if (!this.#move.marks) return;
    await guest.run(
      "(i=0; while [ -e /tmp/busy ]; do " +
        "dd if=/tmp/noise of=/dev/vda bs=64k count=16 oflag=direct conv=notrunc " +
        `skip=$((16 * ((i + i / ${CHUNKS}) % ${CHUNKS}))) ` +
        `seek=$((16 * (${READ} + i % ${CHUNKS}))) || touch /tmp/failed; ` +
        "i=$((i + 1)); echo $i >/tmp/count; done >/dev/null 2>&1; touch /tmp/done) &",
    );
  }

  async move(): Promise<void> {
    const uri = `unix:${join(this.#scenario.folder, "move")}`;
    const source = this.#source;
    await this.#target.execute("migrate-incoming", { uri });
    // A downtime that the work does not allow keeps the passes going.
    const limits = { "max-bandwidth": BANDWIDTH, "downtime-limit": 20 };
    await source.execute("migrate-set-parameters", limits);
    await source.execute("migrate", { uri });
    await this.#until(({ ram }) => (ram?.["dirty-sync-count"] ?? 0) >= 2);
    const read = `dd if=/dev/vda of=/dev/null bs=1M count=${READ} 2>/dev/null`;
    await source.run(read, slow);
    const { status } = await this.#status();
    assert.equal(status, "active", "the disk was read while the guest moved");
    // Memory comes to rest; writes to the disk go on over the switch.
    await source.run("rm /tmp/dirtying");
    await source.execute("migrate-set-parameters", {
      "max-bandwidth": 1024 * MiB,
      "downtime-limit": 2000,
    });
    await this.#until(({ status }) => status === "completed");
  }

  async #status(): Promise<RamStatus> {
    return (await this.#source.execute("query-migrate")) as RamStatus;
  }

  async #until(test: (status: RamStatus) => boolean): Promise<void> {
    const end = performance.now() + 120_000;
    for (;;) {
      const status = await this.#status();
      if (test(status)) return;
      const lost = /failed|cancelled/.test(status.status) || performance.now() > end;
      if (lost) throw new Error(`The guest does not move: ${JSON.stringify(status)}`);
      await sleep(50);
    }
  }

  async #cached(): Promise<{ cache: string; sectors: number }> {
    const sectors = "$(awk '{ print $3 }' /sys/block/vda/stat)";
    const read = `dd if=/dev/vda bs=1M count=${READ} 2>/dev/null | md5sum | cut -d' ' -f1`;
    const words = await this.#target.run(
      `a=${sectors}; b=$(${read}); echo $b $(( ${sectors} - a ))`,
      slow,
    );
    const [cache, count] = words.split(" ");
    return { cache: cache!, sectors: Number(count) };
  }

  /** What the page cache holds is compared with what the disk holds. */
  async compare(): Promise<void> {
    const wanted = md5(part(this.#file, 0, READ * MiB));
    const { cache, sectors } = await this.#cached();
    assert.equal(sectors, 0, "all of it was cached");
    if (!this.#move.marks) {
      assert.notEqual(cache, wanted, "a back-end that marks nothing is found out");
      return;
    }
    assert.equal(cache, wanted, "the page cache moved along");
    await this.#target.run("echo 3 >/proc/sys/vm/drop_caches");
    const again = await this.#cached();
    assert.ok(again.sectors > 0);
    assert.equal(again.cache, wanted, "the new back-end reads the same");
  }

  /** Each chunk holds what was written to it last. */
  async verifyWrites(): Promise<void> {
    const guest = this.#target;
    const before = Number(await guest.run("cat /tmp/count"));
    await sleep(500);
    await guest.run(
      "rm /tmp/busy; for i in $(seq 300); do [ -e /tmp/done ] && break; usleep 100000; done",
      slow,
    );
    const { status } = await guest.ask("[ -e /tmp/failed ]");
    assert.equal(status, 1, "no write failed");
    const count = Number(await guest.run("cat /tmp/count"));
    assert.ok(count > before, "writes went on after the move");
    const sums = await guest.run(
      `for i in $(seq 0 ${CHUNKS - 1}); do ` +
        "dd if=/tmp/noise bs=1M skip=$i count=1 2>/dev/null | md5sum | cut -d' ' -f1; done",
      slow,
    );
    const noise = sums.split("\n");
    for (let slot = 0; slot < CHUNKS; slot++) {
      const lap = Math.floor((count - 1 - slot) / CHUNKS);
      const wanted = lap < 0 ? md5(new Uint8Array(MiB)) : noise[(slot + lap) % CHUNKS];
      assert.equal(md5(part(this.#file, (READ + slot) * MiB, MiB)), wanted, `chunk ${slot}`);
    }
    assert.equal(await this.#sourceBackEnd.status(), null, "the old back-end is alive");
  }
}

/** Declares the tests of one move. */
export function moves(move: Move): void {
  const rings = move.packed ? "packed rings" : "split rings";
  const scene = scenario(`live migration with ${rings}${move.marks ? "" : ", nothing marked"}`);
  const { step, end } = scene;
  const migration = new Migration(scene, move);
  const options = { timeoutMs: 280_000, notWithStandIn: "it needs two back-ends on one image" };
  step("a guest boots, and another QEMU waits for it", () => migration.begin(), options);
  step("the guest works", () => migration.work(), options);
  step("the guest moves while it reads and writes the disk", () => migration.move(), options);
  const outcome = move.marks ? "holds what the disk holds" : "is found to be wrong";
  step(`the page cache ${outcome}`, () => migration.compare(), options);
  if (move.marks) step("all writes arrived", () => migration.verifyWrites(), options);
  end();
}
