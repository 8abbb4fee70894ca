/** vhost-user-blk under User-Mode Linux, a second independent Linux front-end. */
import assert from "node:assert/strict";
import { readdirSync, readlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BackEnd, startBlk } from "./back-end.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";
import { bootUml, type Uml } from "./uml.ts";

const MiB = 1024 * 1024;
const { folder, step, owns, end } = scenario("vhost-user-blk under User-Mode Linux");
const file = join(folder, "disk.img");
let uml: Uml;
let backEnd: BackEnd;
let ownEventFds = 0;

/** Eventfds that the back-end has open. */
function eventFds(): number {
  const folder = `/proc/${backEnd.pid}/fd`;
  const targets = readdirSync(folder).map((name) => readlinkSync(join(folder, name)));
  return targets.filter((target) => target === "anon_inode:[eventfd]").length;
}

/** Writes `mebibytes` of the guest's file, flushes, and compares what comes back. */
async function checkIo(mebibytes: number): Promise<void> {
  const md5 = (path: string) =>
    uml.run(`dd if=${path} bs=1M count=${mebibytes} 2>/dev/null | md5sum`, { timeoutMs: 60_000 });
  await uml.run(`dd if=/dev/urandom of=/tmp/data bs=1M count=${mebibytes} 2>/dev/null`);
  await uml.run("dd if=/tmp/data of=/dev/vda bs=1M conv=fsync 2>/dev/null", { timeoutMs: 60_000 });
  await uml.run("echo 3 >/proc/sys/vm/drop_caches");
  assert.equal(await md5("/dev/vda"), await md5("/tmp/data"));
}

step("User-Mode Linux boots with the disk", async () => {
  writeFileSync(file, "");
  truncateSync(file, 256 * MiB);
  backEnd = owns("back-end", await startBlk(join(folder, "blk"), { file }));
  ownEventFds = eventFds();
  const { socket } = backEnd;
  const devices = [{ socket, virtioId: 2 }];
  uml = owns("uml", await bootUml({ folder, devices, memory: full ? 384 : 192 }));
  assert.equal(await uml.run("cat /sys/block/vda/size"), `${(256 * MiB) / 512}`);
});

step(`${full ? 128 : 16} MiB written, flushed and read back are equal`, async () => {
  await checkIo(full ? 128 : 16);
});

step(
  "all notifications travel in messages",
  async () => assert.equal(eventFds(), ownEventFds, "no kick or call descriptor was passed"),
  { notWithStandIn: "it does not offer in-band notifications" },
);

step("the driver can be unloaded and loaded again on one connection", async () => {
  await uml.run("rm /tmp/data; rmmod virtio_blk && insmod /modules/virtio_blk.ko");
  await checkIo(4);
});

step(
  "a grown image is seen within 2 s",
  async () => {
    const sectors = (320 * MiB) / 512;
    truncateSync(file, 320 * MiB);
    const seen = await uml.run(
      `for i in $(seq 40); do [ $(cat /sys/block/vda/size) = ${sectors} ] && break; ` +
        `usleep 50000; done; cat /sys/block/vda/size`,
    );
    assert.equal(seen, `${sectors}`);
  },
  { notWithStandIn: "it does not watch the file" },
);

end();
