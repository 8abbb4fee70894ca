/**
 * vhost-user-blk with packed rings under QEMU. The firmware finds the disks first and starts them
 * with split rings; Linux then uses packed ones on the same connection.
 */
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RingFeature } from "../../core/features.ts";
import { startBlk } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";
import { sleep } from "./wait.ts";

const MiB = 1024 * 1024;
const { folder, step, owns, end } = scenario("packed rings under QEMU");
const unsupported = { notWithStandIn: "it has no packed rings" };
let guest: Guest;

/** Disks by name: how QEMU's device differs from the default. */
const disks = {
  vda: "num-queues=2",
  vdb: "num-queues=1,indirect_desc=off",
  vdc: "num-queues=1,event_idx=off,queue-size=64",
} as const;
const names = Object.keys(disks) as (keyof typeof disks)[];

const drop = "echo 3 >/proc/sys/vm/drop_caches";

/** Writes 8 MiB to a disk on both processors and reads them back past the page cache. */
async function checkIo(disk: string, flags = ""): Promise<void> {
  await guest.run("dd if=/dev/urandom of=/tmp/fresh bs=1M count=8 2>/dev/null");
  const half = (mask: number, at: number) =>
    `taskset ${mask} dd if=/tmp/fresh of=/dev/${disk} bs=64k count=64 skip=${at} seek=${at} ` +
    `conv=notrunc,fsync ${flags} 2>/dev/null`;
  await guest.run(`${half(1, 0)} & ${half(2, 64)} && wait`);
  const read = `${drop}; head -c 8388608 /dev/${disk} | md5sum`;
  assert.equal(await guest.run(read), await guest.run("md5sum </tmp/fresh"), disk);
}

step(
  "Linux takes packed rings where the firmware had split ones",
  async () => {
    const devices: string[] = [];
    for (const [name, settings] of Object.entries(disks)) {
      const file = join(folder, `${name}.img`);
      writeFileSync(file, "");
      truncateSync(file, 64 * MiB);
      const backEnd = owns(name, await startBlk(join(folder, name), { file, queues: 2 }));
      devices.push("-chardev", `socket,id=${name},path=${backEnd.socket}`);
      devices.push("-device", `vhost-user-blk-pci,chardev=${name},packed=on,${settings}`);
    }
    guest = owns("guest", await bootGuest({ folder, devices }));
    for (const name of names) {
      const features = await guest.run(`cat /sys/block/${name}/device/features`);
      const bit = (feature: number) => features[feature] === "1";
      assert.ok(bit(RingFeature.RING_PACKED), `${name} is packed: ${features}`);
      assert.equal(bit(RingFeature.INDIRECT_DESC), name !== "vdb", features);
      assert.equal(bit(RingFeature.EVENT_IDX), name !== "vdc", features);
    }
  },
  unsupported,
);

step(
  "what is written reads back equal, with any kind of descriptors and events",
  async () => {
    for (const name of names) await checkIo(name);
    for (const name of names) await checkIo(name, "oflag=direct");
  },
  unsupported,
);

step(
  "small reads go round the ring many times",
  async () => {
    const count = full ? 20_000 : 2000;
    for (const name of names) {
      const read = (flags: string) =>
        guest.run(`dd if=/dev/${name} bs=512 count=${count} ${flags} 2>/dev/null | md5sum`);
      assert.equal(await read("iflag=direct"), await read(""), name);
    }
  },
  unsupported,
);

step(
  "mkfs.ext4, file copies and e2fsck -f work",
  async () => {
    for (const name of names) {
      await guest.run(`/tools/mkfs.ext4 -q -F /dev/${name}`, { timeoutMs: 60_000 });
      await guest.run(`mount -t ext4 /dev/${name} /mnt && mkdir /mnt/a`);
      await guest.run("cp /tmp/fresh /mnt/a/1 && cp -r /tools /mnt/a/ && cp /mnt/a/1 /mnt/a/2");
      await guest.run("rm /mnt/a/1 && umount /mnt");
      const check = await guest.run(`/tools/e2fsck -f -n /dev/${name}`, { timeoutMs: 60_000 });
      assert.match(check, /Pass 5/);
      await guest.run(`${drop}; mount -t ext4 /dev/${name} /mnt`);
      await guest.run("cmp /tmp/fresh /mnt/a/2 && diff -r /tools /mnt/a/tools && umount /mnt");
    }
  },
  unsupported,
);

step(
  "writes in progress survive stop and cont",
  async () => {
    await guest.run("dd if=/dev/urandom of=/tmp/large bs=1M count=8 2>/dev/null");
    const write = guest.run("dd if=/tmp/large of=/dev/vda bs=4k oflag=direct 2>/dev/null");
    for (let i = 0; i < (full ? 10 : 3); i++) {
      await sleep(100);
      await guest.execute("stop");
      await sleep(200);
      await guest.execute("cont");
    }
    await write;
    const read = `${drop}; head -c 8388608 /dev/vda | md5sum`;
    const got = await guest.run(read, { timeoutMs: 60_000 });
    assert.equal(got, await guest.run("md5sum </tmp/large"));
  },
  unsupported,
);

step(
  "the guest is up again and does I/O after system_reset",
  async () => {
    await guest.run("dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null");
    await guest.reset();
    for (const name of names) await checkIo(name);
  },
  unsupported,
);

end();
