/** What happens to a machine while a disk is served: stop, reset, unplug, back-end restarts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type BackEnd, type BlkOptions, startBlk } from "./back-end.ts";
import { checkStopAndCont, makeImage, resetAfterWrite } from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";
import { sleep } from "./wait.ts";

const { folder, step, owns, end } = scenario("life cycle under QEMU");
const socket = join(folder, "blk");
const options: BlkOptions = { file: join(folder, "disk.img"), queues: 2 };
const device = { driver: "vhost-user-blk-pci", id: "disk", bus: "port1", chardev: "c0" };
let backEnd: BackEnd;
let guest: Guest;

const serve = async () => {
  backEnd = owns("back-end", await startBlk(socket, options));
};

/** Writes fresh random data, flushes, drops caches and compares: on both processors' queues. */
async function checkIo(): Promise<void> {
  for (const mask of [1, 2]) {
    const [written, read] = (
      await guest.run(
        `head -c 1048576 /dev/urandom >/tmp/fresh; md5sum </tmp/fresh; ` +
          `taskset ${mask} dd if=/tmp/fresh of=/dev/vda bs=64k conv=fsync 2>/dev/null; ` +
          `echo 3 >/proc/sys/vm/drop_caches; taskset ${mask} head -c 1048576 /dev/vda | md5sum`,
      )
    ).split("\n");
    assert.equal(read, written);
  }
}

const diskSeen = (there: boolean) =>
  guest.run(
    `for i in $(seq 100); do [ ${there ? "-b" : "! -e"} /dev/vda ] && break; usleep 50000; done; ` +
      `[ ${there ? "-b" : "! -e"} /dev/vda ]`,
  );

step("a guest with a disk behind a PCIe root port boots and does I/O", async () => {
  makeImage(options.file);
  await serve();
  const devices = [
    ...["-device", "pcie-root-port,id=port1,chassis=1,slot=1"],
    ...["-chardev", `socket,id=c0,path=${socket},reconnect-ms=100`],
    ...["-device", "vhost-user-blk-pci,id=disk,bus=port1,chardev=c0,num-queues=2"],
  ];
  guest = owns("guest", await bootGuest({ folder, devices }));
  await checkIo();
});

step("writes in progress survive stop and cont", async () => {
  await checkStopAndCont(guest, { mib: 16 });
  await checkIo();
});

step("the guest is up again and does I/O after system_reset", async () => {
  await resetAfterWrite(guest);
  await checkIo();
});

step("the disk is unplugged and plugged in again", async () => {
  for (let i = 0; i < (full ? 3 : 1); i++) {
    const deleted = guest.event("DEVICE_DELETED", 20_000, ({ device }) => device === "disk");
    await guest.execute("device_del", { id: "disk" });
    await deleted;
    await diskSeen(false);
    await guest.execute("device_add", { ...device, "num-queues": 2 });
    await diskSeen(true);
    await checkIo();
  }
});

step("I/O goes on after the back-end was stopped and started while the guest idles", async () => {
  assert.equal(await backEnd.stop("SIGTERM"), 0);
  await serve();
  await checkIo();
});

step("I/O goes on after the back-end was killed and started while the guest idles", async () => {
  await backEnd.stop("SIGKILL");
  await sleep(300);
  await serve();
  await checkIo();
});

step("the machine resets and does I/O with the new back-end", async () => {
  await guest.reset();
  await checkIo();
});

step("a guest that stands still finds a back-end that was restarted", async () => {
  await guest.execute("stop");
  assert.equal(await backEnd.stop("SIGTERM"), 0);
  await serve();
  await sleep(300);
  await guest.execute("cont");
  await checkIo();
});

end();
