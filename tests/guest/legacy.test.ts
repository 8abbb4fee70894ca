/**
 * vhost-user-blk as a device from before virtio 1.0, whose rings are placed by their size alone
 * (virtio 1.3, 2.7.2). There are no packed rings of that kind.
 */
import assert from "node:assert/strict";
import { RingFeature } from "../../core/features.ts";
import {
  checkFileSystem,
  checkIo,
  checkStopAndCont,
  featuresOf,
  resetAfterWrite,
  serveDisk,
} from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { scenario } from "./scenario.ts";

const own = scenario("legacy rings under QEMU");
const { folder, step, owns, end } = own;
let guest: Guest;

step("a guest with a legacy disk boots and does I/O", async () => {
  const settings = "num-queues=2,disable-modern=on,disable-legacy=off";
  const devices = await serveDisk(own, "vda", settings);
  guest = owns("guest", await bootGuest({ folder, devices }));
  const has = await featuresOf(guest, "vda");
  assert.ok(!has(RingFeature.VERSION_1), "the device is legacy");
  await checkIo(guest, "vda", { mib: 4 });
});

step("mkfs.ext4, file copies and e2fsck -f work", () => checkFileSystem(guest, "vda"));

step("writes in progress survive stop and cont", () =>
  checkStopAndCont(guest, { mib: 16, timeoutMs: 60_000 }),
);

step("the guest is up again and does I/O after system_reset", async () => {
  await resetAfterWrite(guest);
  await checkIo(guest, "vda", { mib: 4 });
});

end();
