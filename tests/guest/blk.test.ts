/** vhost-user-blk under QEMU: data, file systems, discard, configuration. One boot, two disks. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BackEnd, startBlk } from "./back-end.ts";
import { checkFileSystem } from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";

const MiB = 1024 * 1024;
const { folder, step, owns, end } = scenario("vhost-user-blk under QEMU");
const disk = join(folder, "disk.img");
const sealed = join(folder, "sealed.img");
/** What the answer of a guest under TCG may take on a busy machine, in ms. */
const slack = 500;
const serial = "RINGSIDE-0001";
let guest: Guest;

const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

/** md5 of a part of an image as the host sees it. */
function hostMd5(path: string, bytes: number, at = 0): string {
  const data = Buffer.alloc(bytes);
  const fd = openSync(path, "r");
  const count = readSync(fd, data, 0, bytes, at);
  closeSync(fd);
  assert.equal(count, bytes, `${path} holds ${bytes} bytes at ${at}`);
  return md5(data);
}

/** md5 of a part of a device as the guest reads it, past its page cache. Whole MiB. */
const guestMd5 = (device: string, mebibytes: number, skip = 0) =>
  guest.run(
    `echo 3 >/proc/sys/vm/drop_caches; ` +
      `dd if=${device} bs=1M count=${mebibytes} skip=${skip} 2>/dev/null | md5sum | cut -d' ' -f1`,
  );

/** The arguments of one disk in a slot of its own. */
const diskArguments = (id: string, backEnd: BackEnd, queues: number) => [
  ...["-chardev", `socket,id=${id},path=${backEnd.socket},reconnect-ms=100`],
  ...["-device", `vhost-user-blk-pci,chardev=${id},num-queues=${queues}`],
];

step("a guest with a disk of 2 queues and a read-only disk boots", async () => {
  writeFileSync(disk, "");
  truncateSync(disk, 256 * MiB);
  writeFileSync(sealed, Buffer.alloc(4 * MiB, "read only "));
  const first = owns("disk", await startBlk(join(folder, "a"), { file: disk, queues: 2, serial }));
  const other = { file: sealed, readOnly: true };
  const second = owns("sealed", await startBlk(join(folder, "b"), other));
  const devices = [...diskArguments("c0", first, 2), ...diskArguments("c1", second, 1)];
  guest = owns("guest", await bootGuest({ folder, devices }));
  assert.equal(await guest.run("cat /sys/block/vda/size"), `${(256 * MiB) / 512}`);
  assert.equal(await guest.run("ls /sys/block/vda/mq | wc -l"), "2");
});

step("16 MiB of random data written through both queues read back equal", async () => {
  await guest.run("dd if=/dev/urandom of=/tmp/pattern bs=1M count=16 2>/dev/null");
  const wanted = (await guest.run("md5sum /tmp/pattern")).split(" ")[0];
  // One half per processor, hence per queue. Each flushes at its end.
  const half = (mask: number, at: number) =>
    `taskset ${mask} dd if=/tmp/pattern of=/dev/vda bs=64k count=128 skip=${at} seek=${at} ` +
    `conv=notrunc,fsync 2>/dev/null`;
  await guest.run(`${half(1, 0)} & ${half(2, 128)} && wait`);
  assert.equal(await guestMd5("/dev/vda", 16), wanted);
  assert.equal(hostMd5(disk, 16 * MiB), wanted);
  const interrupts = await guest.run("grep -E 'virtio[0-9]+-req' /proc/interrupts");
  const busy = interrupts.split("\n").filter((line) => /:.*[1-9]\d*.*virtio0-req/.test(line));
  assert.equal(busy.length, 2, `both queues of virtio0 were used:\n${interrupts}`);
});

step("O_DIRECT reads of 4 KiB see what was written", async () => {
  const count = full ? 4096 : 1024;
  const read = (flags: string) =>
    guest.run(`dd if=/dev/vda bs=4k count=${count} ${flags} 2>/dev/null | md5sum`);
  assert.equal(await read("iflag=direct"), `${hostMd5(disk, count * 4096)}  -`);
});

step("mkfs.ext4, file copies and e2fsck -f work", () =>
  checkFileSystem(guest, "vda", { file: "/tmp/pattern", folders: ["/modules", "/tools"] }),
);

step("blkdiscard gives the host's space back and leaves the rest alone", async () => {
  await guest.run("dd if=/tmp/pattern of=/dev/vda bs=1M conv=notrunc,fsync 2>/dev/null");
  const before = statSync(disk).blocks;
  await guest.run("/tools/blkdiscard -o 0 -l 8388608 /dev/vda");
  const freed = (before - statSync(disk).blocks) * 512;
  assert.ok(freed > 7.5 * MiB, `8 MiB discarded, ${freed} bytes freed on the host`);
  const zeroes = md5(Buffer.alloc(8 * MiB));
  assert.equal(await guestMd5("/dev/vda", 8), zeroes);
  const rest = "dd if=/tmp/pattern bs=1M skip=8 2>/dev/null | md5sum | cut -d' ' -f1";
  assert.equal(await guestMd5("/dev/vda", 8, 8), await guest.run(rest));
});

step("blkdiscard -z writes zeroes", async () => {
  await guest.run("/tools/blkdiscard -z -o 12582912 -l 4194304 /dev/vda");
  const zeroes = md5(Buffer.alloc(4 * MiB));
  assert.equal(await guestMd5("/dev/vda", 4, 12), zeroes);
  assert.equal(hostMd5(disk, 4 * MiB, 12 * MiB), zeroes);
});

step("the guest can turn the write cache off and on", async () => {
  const set = (mode: string) =>
    guest.run(`echo '${mode}' >/sys/block/vda/cache_type; cat /sys/block/vda/cache_type`);
  assert.equal(await set("write through"), "write through");
  await guest.run("dd if=/tmp/pattern of=/dev/vda bs=64k count=16 oflag=direct 2>/dev/null");
  assert.equal(await set("write back"), "write back");
  const rest = "dd if=/tmp/pattern bs=64k count=16 2>/dev/null | md5sum | cut -d' ' -f1";
  assert.equal(await guestMd5("/dev/vda", 1), await guest.run(rest));
});

step("a read-only disk refuses writes", async () => {
  assert.equal(await guest.run("cat /sys/block/vdb/ro"), "1");
  const before = hostMd5(sealed, 4 * MiB);
  assert.equal(await guestMd5("/dev/vdb", 4), before);
  const { status } = await guest.ask("dd if=/tmp/pattern of=/dev/vdb bs=4k count=1 conv=fsync");
  assert.notEqual(status, 0);
  assert.equal(hostMd5(sealed, 4 * MiB), before);
});

step(
  "the serial number is seen in sysfs",
  async () => {
    assert.equal(await guest.run("cat /sys/block/vda/serial"), serial);
  },
  { notWithStandIn: "it has no option for a serial number" },
);

step(
  "a grown image is seen within 2 s",
  async () => {
    const sectors = (320 * MiB) / 512;
    const begun = performance.now();
    truncateSync(disk, 320 * MiB);
    // The guest polls, for a command of the host takes its time under TCG.
    const seen = await guest.run(
      `for i in $(seq 100); do [ $(cat /sys/block/vda/size) = ${sectors} ] && break; ` +
        `usleep 50000; done; cat /sys/block/vda/size`,
    );
    const took = performance.now() - begun;
    assert.equal(seen, `${sectors}`);
    assert.ok(took < 2_000 + slack, `it took ${took} ms`);
    const last = 319;
    await guest.run(`dd if=/tmp/pattern of=/dev/vda bs=1M count=1 seek=${last} conv=fsync`);
    assert.equal(await guestMd5("/dev/vda", 1, last), hostMd5(disk, MiB, last * MiB));
  },
  { notWithStandIn: "it does not watch the file" },
);

end();
