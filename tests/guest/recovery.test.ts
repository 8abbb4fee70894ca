/**
 * Back-ends that are killed at random moments while a guest's disks are busy. Every third request is
 * carried out late, so that each kill leaves requests in flight with completed ones after them.
 */
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildTool, compilerMissing } from "../tools/build.ts";
import { type BackEnd, startTardy } from "./back-end.ts";
import { withPrograms } from "./extra-files.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full, labProblem } from "./lab.ts";
import { scenario } from "./scenario.ts";
import { sleep, until } from "./wait.ts";

const { folder, step, owns, overlookFirmware, end } = scenario(
  "kill -9 under QEMU",
  labProblem() ?? compilerMissing(),
);
const unsupported = { notWithStandIn: "it has no device that completes late" };
const KILLS = full ? 25 : 3;
/** Milliseconds after which requests that are not completed are lost. */
const LOST = full ? 30_000 : 10_000;
const BLOCKS = 2048;
const PROCESSES = 8;

interface Disk {
  readonly name: string;
  /** How QEMU's device differs from the default, and the arguments of its back-end. */
  readonly settings: string;
  readonly args: string[];
  backEnd?: BackEnd;
  kills: number;
  replayed: number;
}

const disk = (name: string, settings: string, args: string[] = []): Disk => ({
  name,
  settings,
  args,
  kills: 0,
  replayed: 0,
});
const split = disk("vda", "num-queues=2");
const packed = disk("vdb", "num-queues=2,packed=on");
// Both kinds of rings, without a record of what is in flight.
const untracked = [
  disk("vdc", "num-queues=1", ["--without=inflight-shmfd"]),
  disk("vdd", "num-queues=1,packed=on", ["--without=inflight-shmfd"]),
];
const disks = [split, packed, ...untracked];
let guest: Guest;

async function serve(disk: Disk): Promise<void> {
  const { name, args } = disk;
  const file = join(folder, `${name}.img`);
  const backEnd = await startTardy(join(folder, name), file, args);
  // What is not recorded makes a driver look wrong: that is what the last steps are for.
  const log = () => backEnd.log().replaceAll(": error:", ": expected error:");
  owns(name, untracked.includes(disk) ? { ...backEnd, log } : backEnd);
  disk.backEnd = backEnd;
}

/** Requests that the back-end says it found in flight. */
const found = ({ backEnd }: Disk): number =>
  [...backEnd!.log().matchAll(/in flight are submitted again \(.*count=(\d+)/g)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );

/** Kills a disk's back-end and starts the next one. */
async function replace(disk: Disk): Promise<void> {
  await disk.backEnd!.stop("SIGKILL");
  await serve(disk);
  await until(
    20_000,
    () => (/A front-end connected/.test(disk.backEnd!.log()) ? true : null),
    "QEMU",
  );
  disk.kills++;
}

async function startTraffic({ name }: Disk): Promise<void> {
  const command = `/extra/traffic /dev/${name} ${BLOCKS} ${PROCESSES} /tmp/stop-${name}`;
  await guest.run(`(${command}; echo "status $?") >/tmp/log-${name} 2>&1 &`);
  await requests(name, 20);
}

/** Waits until the guest has completed so many requests more. */
async function requests(name: string, count: number, timeoutMs = 30_000): Promise<void> {
  const done = `awk '{ print $1 + $5 }' /sys/block/${name}/stat`;
  const begun = Number(await guest.run(done));
  await until(
    timeoutMs,
    async () => (Number(await guest.run(done)) >= begun + count ? true : null),
    `${count} requests of ${name}`,
  );
}

/** Ends the traffic of a disk. Returns what the program said. */
async function endTraffic({ name }: Disk, seconds: number): Promise<string> {
  await guest.run(`touch /tmp/stop-${name}`);
  return guest.run(
    `for i in $(seq ${seconds * 5}); do grep -q status /tmp/log-${name} && break; usleep 200000; done; ` +
      `cat /tmp/log-${name}`,
    { timeoutMs: (seconds + 30) * 1000 },
  );
}

step(
  "a guest boots with disks on split and packed rings",
  async () => {
    const traffic = buildTool("tests/guest/programs/traffic.c", { flags: ["-static"] });
    const devices: string[] = [];
    for (const disk of disks) {
      const { name, settings } = disk;
      writeFileSync(join(folder, `${name}.img`), "");
      truncateSync(join(folder, `${name}.img`), BLOCKS * 4096);
      await serve(disk);
      devices.push("-chardev", `socket,id=${name},path=${join(folder, name)},reconnect-ms=100`);
      devices.push("-device", `vhost-user-blk-pci,chardev=${name},${settings}`);
    }
    const initrd = withPrograms(folder, { traffic });
    guest = owns("guest", await bootGuest({ folder, devices, initrd }));
    overlookFirmware();
  },
  { ...unsupported, timeoutMs: 180_000 },
);

for (const [kind, disk] of [
  ["split", split],
  ["packed", packed],
] as const) {
  step(
    `${kind} rings: nothing is lost, repeated or wrong after ${KILLS} kills`,
    async () => {
      await startTraffic(disk);
      for (let i = 0; i < KILLS; i++) {
        await sleep(50 + Math.random() * 500);
        await replace(disk);
        await requests(disk.name, 10);
        disk.replayed += found(disk);
      }
      const said = await endTraffic(disk, 60);
      assert.match(said, /^verified \d+\nstatus 0$/);
      assert.equal(await guest.run(`dmesg | grep -c 'error.*${disk.name}' || true`), "0");
      console.log(`${kind}: ${disk.kills} kills, ${disk.replayed} requests replayed, ${said}`);
      assert.ok(disk.replayed >= KILLS, `${disk.replayed} requests were in flight`);
    },
    { ...unsupported, timeoutMs: full ? 600_000 : 200_000 },
  );
}

for (const disk of untracked) {
  step(
    `the same fails when nothing is recorded: ${disk.settings}`,
    async () => {
      await startTraffic(disk);
      let lost = false;
      for (let i = 0; i < KILLS && !lost; i++) {
        await sleep(100);
        await replace(disk);
        assert.equal(found(disk), 0);
        lost = await requests(disk.name, 200, LOST).then(
          () => false,
          () => true,
        );
      }
      const said = await endTraffic(disk, 5);
      assert.doesNotMatch(said, /status 0/, "requests in flight survive without a record");
    },
    { ...unsupported, timeoutMs: 300_000 },
  );
}

end();
