/**
 * The demo's guest: boots Linux on a served disk and uses it. Prints an event per step, as JSON.
 * Arguments: the back-end's socket, and a folder for the guest's own sockets.
 */
import { bootGuest } from "../../tests/guest/guest.ts";

const [socket, folder] = process.argv.slice(2) as [string, string];

let last = performance.now();

function report(step: string): void {
  const now = performance.now();
  console.log(JSON.stringify({ event: "guest", step, seconds: (now - last) / 1000 }));
  last = now;
}

const devices = [
  ...["-chardev", `socket,id=disk,path=${socket},reconnect-ms=100`],
  ...["-device", "vhost-user-blk-pci,chardev=disk,num-queues=2"],
];
const guest = await bootGuest({ folder, devices });
try {
  report(`Linux ${await guest.run("uname -r")} is up in QEMU`);
  const sectors = Number(await guest.run("cat /sys/block/vda/size"));
  await guest.run("/tools/mkfs.ext4 -q -F /dev/vda", { timeoutMs: 120_000 });
  report(`mkfs.ext4 on /dev/vda, ${(sectors * 512) / 2 ** 20} MiB`);
  await guest.run("mount -t ext4 /dev/vda /mnt");
  await guest.run("dd if=/dev/urandom of=/mnt/random bs=1M count=16 2>/dev/null");
  const written = await guest.run("md5sum </mnt/random");
  await guest.run("umount /mnt && echo 3 >/proc/sys/vm/drop_caches && mount -t ext4 /dev/vda /mnt");
  const read = await guest.run("md5sum </mnt/random");
  if (read !== written) throw new Error(`Wrote ${written} and read ${read}`);
  report("16 MiB of random data written, caches dropped, read back equal");
  await guest.run("umount /mnt && /tools/e2fsck -f -n /dev/vda", { timeoutMs: 120_000 });
  report("e2fsck finds the file system clean");
} finally {
  await guest.stop();
}
