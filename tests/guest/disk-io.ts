/** What a guest does with a vhost-user disk, whatever lies between the two. */
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BlkOptions, startBlk } from "./back-end.ts";
import type { Guest } from "./guest.ts";
import { full } from "./lab.ts";
import type { Scenario } from "./scenario.ts";
import { sleep } from "./wait.ts";

const MiB = 1024 * 1024;
const drop = "echo 3 >/proc/sys/vm/drop_caches";

/** Makes an image of 64 MiB of zeroes. */
export function makeImage(file: string): void {
  writeFileSync(file, "");
  truncateSync(file, 64 * MiB);
}

/** Serves an image of its own as a disk with QEMU's `settings`. Returns what QEMU needs to be told. */
export async function serveDisk(
  { folder, owns }: Pick<Scenario, "folder" | "owns">,
  name: string,
  settings: string,
  options: Partial<BlkOptions> = {},
): Promise<string[]> {
  const file = join(folder, `${name}.img`);
  makeImage(file);
  const socket = join(folder, name);
  owns(name, await startBlk(socket, { file, queues: 2, ...options }));
  return [
    ...["-chardev", `socket,id=${name},path=${socket}`],
    ...["-device", `vhost-user-blk-pci,chardev=${name},${settings}`],
  ];
}

/** Serves disks by name, all of them with `settings` besides their own. */
export async function serveDisks(
  own: Pick<Scenario, "folder" | "owns">,
  disks: Readonly<Record<string, string>>,
  settings: string,
  options?: Partial<BlkOptions>,
): Promise<string[]> {
  const devices: string[] = [];
  for (const [name, other] of Object.entries(disks)) {
    devices.push(...(await serveDisk(own, name, `${settings},${other}`, options)));
  }
  return devices;
}

/** The feature bits of a guest's disk, by their numbers. */
export async function featuresOf(guest: Guest, disk: string): Promise<(bit: number) => boolean> {
  const features = await guest.run(`cat /sys/block/${disk}/device/features`);
  return (bit) => features[bit] === "1";
}

export interface IoOptions {
  /** How much of the disk is written, in MiB. */
  readonly mib: number;
  /** Flags of `dd`. */
  readonly flags?: string;
  /** For each command. */
  readonly timeoutMs?: number;
}

/** Writes to a disk from both processors and reads it back past the page cache; keeps /tmp/fresh. */
export async function checkIo(guest: Guest, disk: string, options: IoOptions): Promise<void> {
  const { mib, flags = "", timeoutMs } = options;
  const run = (command: string) => guest.run(command, { timeoutMs });
  await run(`dd if=/dev/urandom of=/tmp/fresh bs=1M count=${mib} 2>/dev/null`);
  const blocks = (mib * MiB) / (64 * 1024) / 2;
  const half = (mask: number, at: number) =>
    `taskset ${mask} dd if=/tmp/fresh of=/dev/${disk} bs=64k count=${blocks} skip=${at} ` +
    `seek=${at} conv=notrunc,fsync ${flags} 2>/dev/null`;
  await run(`${half(1, 0)} & ${half(2, blocks)} && wait`);
  const read = `${drop}; head -c ${mib * MiB} /dev/${disk} | md5sum`;
  assert.equal(await run(read), await run("md5sum </tmp/fresh"), disk);
}

/** Writes to the first disk 4 KiB at a time while the machine stops and goes on, and reads it back. */
export async function checkStopAndCont(guest: Guest, options: IoOptions): Promise<void> {
  const { mib, timeoutMs } = options;
  const run = (command: string) => guest.run(command, { timeoutMs });
  await run(`dd if=/dev/urandom of=/tmp/large bs=1M count=${mib} 2>/dev/null`);
  const write = run("dd if=/tmp/large of=/dev/vda bs=4k oflag=direct 2>/dev/null");
  for (let i = 0; i < (full ? 10 : 3); i++) {
    await sleep(100);
    await guest.execute("stop");
    await sleep(200);
    await guest.execute("cont");
  }
  await write;
  const read = `${drop}; head -c ${mib * MiB} /dev/vda | md5sum`;
  assert.equal(await run(read), await run("md5sum </tmp/large"));
}

export interface FileOptions {
  /** What is copied: a file, and folders. */
  readonly file?: string;
  readonly folders?: readonly string[];
  /** For each command. */
  readonly timeoutMs?: number;
}

/** Makes a file system, copies files of the guest to it, and checks both. */
export async function checkFileSystem(
  guest: Guest,
  disk: string,
  { file = "/tmp/fresh", folders = ["/tools"], timeoutMs = 60_000 }: FileOptions = {},
): Promise<void> {
  const run = (command: string) => guest.run(command, { timeoutMs });
  await run(`/tools/mkfs.ext4 -q -F /dev/${disk}`);
  await run(`mount -t ext4 /dev/${disk} /mnt && mkdir /mnt/a`);
  await run(`cp ${file} /mnt/a/1 && cp -r ${folders.join(" ")} /mnt/a/ && cp /mnt/a/1 /mnt/a/2`);
  await run("rm /mnt/a/1 && umount /mnt");
  assert.match(await run(`/tools/e2fsck -f -n /dev/${disk}`), /Pass 5/);
  await run(`${drop}; mount -t ext4 /dev/${disk} /mnt`);
  await run(`cmp ${file} /mnt/a/2`);
  for (const folder of folders) await run(`diff -r ${folder} /mnt/a${folder}`);
  await run("umount /mnt");
}

/** What is read past the page cache, `count` blocks of a size in bytes, is what the cache has. */
export async function checkSmallReads(
  guest: Guest,
  disk: string,
  { size, count, timeoutMs }: { size: number; count: number; timeoutMs?: number },
): Promise<void> {
  const read = (flags: string) =>
    guest.run(`dd if=/dev/${disk} bs=${size} count=${count} ${flags} 2>/dev/null | md5sum`, {
      timeoutMs,
    });
  assert.equal(await read("iflag=direct"), await read(""), disk);
}

/** The machine resets; the guest comes up again. */
export async function resetAfterWrite(guest: Guest): Promise<void> {
  await guest.run("dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null");
  await guest.reset();
}
