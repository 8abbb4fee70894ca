/**
 * vhost-user-blk behind an IOMMU under QEMU: every address is one of the IOMMU's, its translations come
 * by IOTLB messages, 4 KiB each, and are taken away when a request is over (iommu=strict).
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
const { folder, step, owns, end } = scenario("an IOMMU under QEMU");
let guest: Guest;

/** Disks by name: how QEMU's device differs from the default. */
const disks = {
  vda: "num-queues=2",
  vdb: "num-queues=1,queue-size=1024,indirect_desc=off",
  vdc: "num-queues=2,packed=on",
} as const;
const names = Object.keys(disks) as (keyof typeof disks)[];

const drop = "echo 3 >/proc/sys/vm/drop_caches";

/** Guests behind an IOMMU are slow, above all where others keep the machine busy. */
const timeoutMs = 180_000;
const unsupported = { notWithStandIn: "it has no IOTLB", timeoutMs };
const patience = { timeoutMs: 90_000 };

/** Writes 1 MiB to a disk on both processors and reads it back past the page cache. */
async function checkIo(disk: string, flags = ""): Promise<void> {
  await guest.run("dd if=/dev/urandom of=/tmp/fresh bs=1M count=1 2>/dev/null", patience);
  const half = (mask: number, at: number) =>
    `taskset ${mask} dd if=/tmp/fresh of=/dev/${disk} bs=64k count=8 skip=${at} seek=${at} ` +
    `conv=notrunc,fsync ${flags} 2>/dev/null`;
  await guest.run(`${half(1, 0)} & ${half(2, 8)} && wait`, patience);
  const read = `${drop}; head -c 1048576 /dev/${disk} | md5sum`;
  assert.equal(await guest.run(read, patience), await guest.run("md5sum </tmp/fresh"), disk);
}

step(
  "Linux gives the disks I/O addresses",
  async () => {
    const devices = ["-device", "intel-iommu,device-iotlb=on,intremap=off"];
    for (const [name, settings] of Object.entries(disks)) {
      const file = join(folder, `${name}.img`);
      writeFileSync(file, "");
      truncateSync(file, 64 * MiB);
      const backEnd = owns(
        name,
        await startBlk(join(folder, name), { file, queues: 2, iommu: true }),
      );
      devices.push("-chardev", `socket,id=${name},path=${backEnd.socket}`);
      const platform = "iommu_platform=on,ats=on,disable-legacy=on";
      devices.push("-device", `vhost-user-blk-pci,chardev=${name},${platform},${settings}`);
    }
    const kernelArguments = "intel_iommu=on iommu.strict=1";
    guest = owns("guest", await bootGuest({ folder, devices, kernelArguments }));
    for (const name of names) {
      const features = await guest.run(`cat /sys/block/${name}/device/features`);
      assert.equal(features[RingFeature.ACCESS_PLATFORM], "1", `${name}: ${features}`);
      assert.equal(features[RingFeature.RING_PACKED], name === "vdc" ? "1" : "0");
      const group = await guest.run(`cat /sys/block/${name}/device/../iommu_group/type`);
      assert.equal(group, "DMA", "translations are strict");
    }
  },
  unsupported,
);

step(
  "what is written reads back equal",
  async () => {
    for (const name of names) await checkIo(name);
    for (const name of names) await checkIo(name, "oflag=direct");
  },
  unsupported,
);

step(
  "small reads use a new translation each",
  async () => {
    const count = full ? 20_000 : 500;
    for (const name of names) {
      const read = (flags: string) =>
        guest.run(
          `dd if=/dev/${name} bs=4k count=${count} ${flags} 2>/dev/null | md5sum`,
          patience,
        );
      assert.equal(await read("iflag=direct"), await read(""), name);
    }
  },
  unsupported,
);

step(
  "mkfs.ext4, file copies and e2fsck -f work",
  async () => {
    for (const name of full ? names : (["vdc"] as const)) {
      await guest.run(`/tools/mkfs.ext4 -q -F /dev/${name}`, patience);
      await guest.run(`mount -t ext4 /dev/${name} /mnt && mkdir /mnt/a`);
      await guest.run(
        "cp /tmp/fresh /mnt/a/1 && cp -r /tools /mnt/a/ && cp /mnt/a/1 /mnt/a/2",
        patience,
      );
      await guest.run("rm /mnt/a/1 && umount /mnt");
      const check = await guest.run(`/tools/e2fsck -f -n /dev/${name}`, patience);
      assert.match(check, /Pass 5/);
      await guest.run(`${drop}; mount -t ext4 /dev/${name} /mnt`);
      await guest.run(
        "cmp /tmp/fresh /mnt/a/2 && diff -r /tools /mnt/a/tools && umount /mnt",
        patience,
      );
    }
  },
  unsupported,
);

step(
  "writes in progress survive stop and cont",
  async () => {
    await guest.run("dd if=/dev/urandom of=/tmp/large bs=1M count=1 2>/dev/null", patience);
    const write = guest.run(
      "dd if=/tmp/large of=/dev/vda bs=4k oflag=direct 2>/dev/null",
      patience,
    );
    for (let i = 0; i < (full ? 10 : 3); i++) {
      await sleep(100);
      await guest.execute("stop");
      await sleep(200);
      await guest.execute("cont");
    }
    await write;
    const read = `${drop}; head -c 1048576 /dev/vda | md5sum`;
    assert.equal(await guest.run(read), await guest.run("md5sum </tmp/large"));
  },
  unsupported,
);

// QEMU 10.0.2 cannot start its own side again after system_reset with an IOMMU: "Error starting vhost".
step(
  "a driver that comes back has I/O addresses of its own, and frees them lazily if it likes",
  async () => {
    for (const name of names) {
      const parent = await guest.run(`readlink -f /sys/block/${name}/device`);
      const device = parent.split("/").at(-1);
      const group = `${parent}/../iommu_group/type`;
      const driver = "/sys/bus/virtio/drivers/virtio_blk";
      await guest.run(`echo ${device} >${driver}/unbind && echo DMA-FQ >${group}`);
      await guest.run(`echo ${device} >${driver}/bind && cat ${group}`);
      assert.equal(await guest.run(`cat ${group}`), "DMA-FQ");
    }
    for (const name of names) await checkIo(name);
    for (const name of names) await checkIo(name, "oflag=direct");
  },
  unsupported,
);

end();
