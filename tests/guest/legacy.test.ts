/**
 * vhost-user-blk as a device from before virtio 1.0, whose rings are placed by their size alone
 * (virtio 1.3, 2.7.2). There are no packed rings of that kind.
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
const { folder, step, owns, end } = scenario("legacy rings under QEMU");
const drop = "echo 3 >/proc/sys/vm/drop_caches";
let guest: Guest;

/** Writes 4 MiB on both processors and reads them back past the page cache. */
async function checkIo(): Promise<void> {
  await guest.run("dd if=/dev/urandom of=/tmp/fresh bs=1M count=4 2>/dev/null");
  const half = (mask: number, at: number) =>
    `taskset ${mask} dd if=/tmp/fresh of=/dev/vda bs=64k count=32 skip=${at} seek=${at} ` +
    "conv=notrunc,fsync 2>/dev/null";
  await guest.run(`${half(1, 0)} & ${half(2, 32)} && wait`);
  const read = `${drop}; head -c 4194304 /dev/vda | md5sum`;
  assert.equal(await guest.run(read), await guest.run("md5sum </tmp/fresh"));
}

step("a guest with a legacy disk boots and does I/O", async () => {
  const file = join(folder, "disk.img");
  writeFileSync(file, "");
  truncateSync(file, 64 * MiB);
  const backEnd = owns("back-end", await startBlk(join(folder, "blk"), { file, queues: 2 }));
  const settings = "num-queues=2,disable-modern=on,disable-legacy=off";
  const devices = [
    ...["-chardev", `socket,id=c0,path=${backEnd.socket}`],
    ...["-device", `vhost-user-blk-pci,chardev=c0,${settings}`],
  ];
  guest = owns("guest", await bootGuest({ folder, devices }));
  const features = await guest.run("cat /sys/block/vda/device/features");
  assert.equal(features[RingFeature.VERSION_1], "0", features);
  await checkIo();
});

step("mkfs.ext4, file copies and e2fsck -f work", async () => {
  await guest.run("/tools/mkfs.ext4 -q -F /dev/vda", { timeoutMs: 60_000 });
  await guest.run("mount -t ext4 /dev/vda /mnt && cp -r /tools /tmp/fresh /mnt/ && umount /mnt");
  const check = await guest.run("/tools/e2fsck -f -n /dev/vda", { timeoutMs: 60_000 });
  assert.match(check, /Pass 5/);
  await guest.run(`${drop}; mount -t ext4 /dev/vda /mnt`);
  await guest.run("cmp /tmp/fresh /mnt/fresh && diff -r /tools /mnt/tools && umount /mnt");
});

step("writes in progress survive stop and cont", async () => {
  await guest.run("dd if=/dev/urandom of=/tmp/large bs=1M count=16 2>/dev/null");
  const write = guest.run("dd if=/tmp/large of=/dev/vda bs=4k oflag=direct 2>/dev/null", {
    timeoutMs: 60_000,
  });
  for (let i = 0; i < (full ? 10 : 3); i++) {
    await sleep(100);
    await guest.execute("stop");
    await sleep(200);
    await guest.execute("cont");
  }
  await write;
  const read = `${drop}; head -c 16777216 /dev/vda | md5sum`;
  assert.equal(await guest.run(read), await guest.run("md5sum </tmp/large"));
});

step("the guest is up again and does I/O after system_reset", async () => {
  await guest.run("dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null");
  await guest.reset();
  await checkIo();
});

end();
