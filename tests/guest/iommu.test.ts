/**
 * vhost-user-blk behind an IOMMU under QEMU: every address is one of the IOMMU's, its translations come
 * by IOTLB messages, 4 KiB each, and are taken away when a request is over (iommu=strict).
 */
import assert from "node:assert/strict";
import { RingFeature } from "../../core/features.ts";
import {
  checkFileSystem,
  checkIo,
  checkSmallReads,
  checkStopAndCont,
  featuresOf,
  serveDisks,
} from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";

const own = scenario("an IOMMU under QEMU");
const { folder, step, owns, overlookFirmware, end } = own;
let guest: Guest;

/** Disks by name: how QEMU's device differs from the default. */
const disks = {
  vda: "num-queues=2",
  vdb: "num-queues=1,queue-size=1024,indirect_desc=off",
  vdc: "num-queues=2,packed=on",
} as const;
const names = Object.keys(disks) as (keyof typeof disks)[];

/** Guests behind an IOMMU are slow, above all where others keep the machine busy. */
const timeoutMs = 180_000;
const unsupported = { notWithStandIn: "it has no IOTLB", timeoutMs };
const patience = { timeoutMs: 90_000 };

async function checkAllIo(which: readonly (keyof typeof disks)[] = names): Promise<void> {
  for (const flags of ["", "oflag=direct"]) {
    for (const name of which) await checkIo(guest, name, { mib: 1, flags, ...patience });
  }
}

step(
  "Linux gives the disks I/O addresses",
  async () => {
    const platform = "iommu_platform=on,ats=on,disable-legacy=on";
    const devices = [
      ...["-device", "intel-iommu,device-iotlb=on,intremap=off"],
      ...(await serveDisks(own, disks, platform, { iommu: true })),
    ];
    const kernelArguments = "intel_iommu=on iommu.strict=1";
    guest = owns("guest", await bootGuest({ folder, devices, kernelArguments }));
    overlookFirmware();
    for (const name of names) {
      const has = await featuresOf(guest, name);
      assert.ok(has(RingFeature.ACCESS_PLATFORM), name);
      assert.equal(has(RingFeature.RING_PACKED), name === "vdc", name);
      const group = await guest.run(`cat /sys/block/${name}/device/../iommu_group/type`);
      assert.equal(group, "DMA", "translations are strict");
    }
  },
  unsupported,
);

step("what is written reads back equal", () => checkAllIo(), unsupported);

step(
  "small reads use a new translation each",
  async () => {
    const count = full ? 20_000 : 200;
    for (const name of names)
      await checkSmallReads(guest, name, { size: 4096, count, ...patience });
  },
  unsupported,
);

step(
  "mkfs.ext4, file copies and e2fsck -f work",
  async () => {
    for (const name of full ? names : ["vdc"]) await checkFileSystem(guest, name, patience);
  },
  unsupported,
);

step(
  "writes in progress survive stop and cont",
  () => checkStopAndCont(guest, { mib: 1, ...patience }),
  unsupported,
);

// QEMU 10.0.2 cannot start its own side again after system_reset with an IOMMU: "Error starting vhost".
step(
  "a driver that comes back has I/O addresses of its own, and frees them lazily if it likes",
  async () => {
    const back = full ? names : (["vdc"] as const);
    for (const name of back) {
      const parent = await guest.run(`readlink -f /sys/block/${name}/device`);
      const device = parent.split("/").at(-1);
      const group = `${parent}/../iommu_group/type`;
      const driver = "/sys/bus/virtio/drivers/virtio_blk";
      await guest.run(`echo ${device} >${driver}/unbind && echo DMA-FQ >${group}`);
      await guest.run(`echo ${device} >${driver}/bind && cat ${group}`);
      assert.equal(await guest.run(`cat ${group}`), "DMA-FQ");
    }
    await checkAllIo(back);
  },
  unsupported,
);

end();
