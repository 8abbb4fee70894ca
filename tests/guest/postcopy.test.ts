/**
 * Postcopy migration from one QEMU to another while the guest reads and writes its disk: it runs at
 * the destination before its memory is there, and so does the back-end.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startBlk } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { scenario } from "./scenario.ts";
import { sleep, until } from "./wait.ts";

const MiB = 1024 * 1024;
const { folder, step, owns, end } = scenario("postcopy migration under QEMU");
const skip = { notWithStandIn: "it has no postcopy migration" };
const disk = join(folder, "disk.img");
/** Bytes per second: slow enough that pages are missing for seconds. */
const bandwidth = 12 * MiB;
const faults = (name: string) => join(folder, name, "faults");
let source: Guest;
let target: Guest;

async function machine(name: string, incoming: boolean): Promise<Guest> {
  mkdirSync(join(folder, name));
  const options = { file: disk, queues: 2, postcopy: true };
  const backEnd = owns(`${name} back-end`, await startBlk(join(folder, name, "blk"), options));
  const devices = [
    ...["-chardev", `socket,id=c0,path=${backEnd.socket}`],
    ...["-device", "vhost-user-blk-pci,chardev=c0,num-queues=2"],
    // Pages that the back-end, and not the guest itself, waits for.
    ...["-trace", `enable=vhost_user_postcopy_fault_handler,file=${faults(name)}`],
  ];
  // Otherwise the guest zeroes each page before it gives it to the disk to fill.
  const kernelArguments = "init_on_alloc=0";
  const place = join(folder, name);
  const guest = owns(name, await bootGuest({ folder: place, devices, kernelArguments, incoming }));
  const capability = { capability: "postcopy-ram", state: true };
  await guest.execute("migrate-set-capabilities", { capabilities: [capability] });
  return guest;
}

const migrationOf = async (guest: Guest) =>
  (await guest.execute("query-migrate")) as { status?: string; "error-desc"?: string };

function reaches(guest: Guest, wanted: string): Promise<true> {
  const probe = async () => {
    const { status, "error-desc": error } = await migrationOf(guest);
    if (status === "failed") throw new Error(`the migration failed: ${error}`);
    return status === wanted ? true : null;
  };
  return until(60_000, probe, `the migration to be ${wanted}`);
}

/**
 * Writes random data to one of 64 places after the other, reads it back past the page cache, and
 * notes its sum; a difference is noted as well.
 */
const work = `
i=0
while [ ! -e /tmp/stop ]; do
  n=$((i % 64))
  dd if=/dev/urandom of=/tmp/w bs=64k count=1 2>/dev/null
  taskset $((i % 2 + 1)) dd if=/tmp/w of=/dev/vda bs=64k seek=$n conv=notrunc oflag=direct 2>/dev/null || echo write $n >>/tmp/bad
  dd if=/dev/vda of=/tmp/r bs=64k skip=$n count=1 iflag=direct 2>/dev/null || echo read $n >>/tmp/bad
  cmp /tmp/w /tmp/r >>/tmp/bad 2>&1
  md5sum </tmp/w >/tmp/sum.$n
  i=$((i + 1))
  echo $i >/tmp/count
done
touch /tmp/stopped
`;

/** How often the guest has written and read back. */
const count = async (guest: Guest) =>
  Number(await guest.run("cat /tmp/count 2>/dev/null || echo 0"));

/** Waits until it has done so twice more than `before`. */
async function worksOn(guest: Guest, before: number): Promise<void> {
  const probe = async () => ((await count(guest)) > before + 1 ? true : null);
  await until(30_000, probe, "the guest's work to go on");
}

step(
  "a guest works on its disk",
  async () => {
    writeFileSync(disk, "");
    truncateSync(disk, 64 * MiB);
    source = await machine("source", false);
    target = await machine("target", true);
    for (const line of work.trim().split("\n")) {
      await source.run(`echo '${line}' >>/tmp/work.sh`);
    }
    // Memory to move, and what can be seen of it afterwards.
    await source.run("dd if=/dev/urandom of=/tmp/ballast bs=1M count=64 2>/dev/null");
    // Free memory with something in it, which takes its time as well.
    await source.run("cat /tmp/ballast /tmp/ballast >/tmp/filler; rm /tmp/filler");
    await source.run("md5sum </tmp/ballast >/tmp/ballast.sum");
    await source.run(
      "dd if=/tmp/ballast of=/dev/vda bs=1M seek=8 count=32 oflag=direct 2>/dev/null",
    );
    await source.run("setsid sh /tmp/work.sh >/dev/null 2>&1 &");
    await worksOn(source, 0);
  },
  { ...skip, timeoutMs: 120_000 },
);

step(
  "it moves to another QEMU and back-end before its memory",
  async () => {
    const uri = `unix:${join(folder, "migration")}`;
    for (const guest of [source, target]) {
      const limits = { "max-bandwidth": bandwidth, "max-postcopy-bandwidth": bandwidth };
      await guest.execute("migrate-set-parameters", limits);
    }
    await target.execute("migrate-incoming", { uri });
    await source.execute("migrate", { uri });
    await reaches(source, "active");
    await sleep(1000);
    await source.execute("migrate-start-postcopy");
    await reaches(target, "postcopy-active");
    const before = await count(target);
    // Into pages that the guest has not touched here: it is the back-end that waits for them.
    await target.run("dd if=/dev/vda of=/dev/null bs=1M skip=8 count=32 2>/dev/null");
    await worksOn(target, before);
    await reaches(target, "completed");
    await reaches(source, "completed");
  },
  { ...skip, timeoutMs: 180_000 },
);

step(
  "nothing is lost, and the back-end waited for pages",
  async () => {
    const before = await count(target);
    await worksOn(target, before);
    const [cached, expected] = (
      await target.run(
        "dd if=/dev/vda bs=1M skip=8 count=32 2>/dev/null | md5sum; " +
          "dd if=/tmp/ballast bs=1M count=32 2>/dev/null | md5sum",
      )
    ).split("\n");
    assert.equal(cached, expected, "what was read before its pages had come");
    await target.run("touch /tmp/stop; while [ ! -e /tmp/stopped ]; do usleep 50000; done");
    assert.equal(await target.run("cat /tmp/bad"), "", "each write was read back");
    const wrong = await target.run(
      "echo 3 >/proc/sys/vm/drop_caches; for f in /tmp/sum.*; do n=$(echo $f | cut -d. -f2); " +
        "dd if=/dev/vda bs=64k skip=$n count=1 2>/dev/null | md5sum | cmp -s - $f || echo $n; done",
      { timeoutMs: 60_000 },
    );
    assert.equal(wrong, "", "places of the disk that hold something else");
    await target.run("md5sum </tmp/ballast | cmp - /tmp/ballast.sum");
    const waits = readFileSync(faults("target"), "utf8").trim().split("\n").length;
    assert.ok(waits > 50, `the back-end waited for ${waits} pages`);
  },
  { ...skip, timeoutMs: 90_000 },
);
end();
