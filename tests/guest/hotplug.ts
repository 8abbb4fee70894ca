/** Memory that is plugged into a guest and taken out again while its disk is in use. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fdCount, mappingsOf } from "../support/process-status.ts";
import { type BackEnd, startBlk } from "./back-end.ts";
import { makeImage } from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";
import { sleep, until } from "./wait.ts";

const MiB = 1024 * 1024;
const PLUGGED = 512;
/** Requests that must have had a buffer in plugged memory. */
const ENOUGH = 1000;
const ROUNDS = full ? 3 : 1;

/** Declares the tests for one kind of rings. */
export function hotplug(packed: boolean): void {
  const scene = scenario(`memory hotplug with ${packed ? "packed" : "split"} rings`);
  const { folder, step, owns, end } = scene;
  const slow = { timeoutMs: 60_000 };
  const patient = { timeoutMs: 250_000, notWithStandIn: "it counts no requests" };
  let backEnd: BackEnd;
  let guest: Guest;
  let before: { fds: number; regions: number };

  const holdings = () => ({
    fds: fdCount(backEnd.pid),
    regions: mappingsOf(backEnd.pid, "/memfd:memory-backend-memfd"),
  });
  /** Lines of the back-end's log that match. */
  const told = (pattern: RegExp) => backEnd.log().match(new RegExp(pattern, "g"))?.length ?? 0;
  const counted = () => Number(/.*plugged memory \(count=(\d+)\)/s.exec(backEnd.log())?.[1] ?? 0);
  const laps = async () => Number(await guest.run("cat /tmp/laps"));

  step(
    "a guest that may grow boots and works",
    async () => {
      const file = join(folder, "disk.img");
      makeImage(file);
      const options = { file, queues: 2, plugin: "counting-disk.ts", debug: true };
      backEnd = owns("back-end", await startBlk(join(folder, "blk"), options));
      const devices = [
        ...["-chardev", `socket,id=c0,path=${backEnd.socket}`],
        ...[
          "-device",
          `vhost-user-blk-pci,chardev=c0,num-queues=2,packed=${packed ? "on" : "off"}`,
        ],
      ];
      const kernelArguments = "memhp_default_state=online_movable";
      const boot = bootGuest({ folder, devices, pluggable: 1536, kernelArguments });
      guest = owns("guest", await boot);
      await guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null", slow);
      // Every lap writes another part of the noise, reads it back past the page cache, and compares.
      await guest.run(
        "touch /tmp/busy; echo 0 >/tmp/laps; (i=0; while [ -e /tmp/busy ]; do " +
          "a=$((i % 8)); b=$((i * 5 % 64)); " +
          "dd if=/tmp/noise bs=16k skip=$((a * 64)) count=64 2>/dev/null | " +
          "dd of=/dev/vda bs=16k seek=$((b * 64)) iflag=fullblock oflag=direct conv=notrunc 2>/dev/null; " +
          "x=$(dd if=/dev/vda bs=16k skip=$((b * 64)) count=64 iflag=direct 2>/dev/null | md5sum); " +
          "y=$(dd if=/tmp/noise bs=1M skip=$a count=1 2>/dev/null | md5sum); " +
          '[ "$x" = "$y" ] || echo "$i $x $y" >>/tmp/wrong; ' +
          "i=$((i + 1)); echo $i >/tmp/laps; done; touch /tmp/done) >/dev/null 2>&1 &",
      );
      await until(60_000, async () => ((await laps()) >= 2 ? true : null), "the first laps");
      before = holdings();
    },
    patient,
  );

  for (let round = 1; round <= ROUNDS; round++) {
    step(
      `memory is plugged in, and requests use it (${round})`,
      async () => {
        const [added, used] = [told(/A memory region is there/), counted()];
        await guest.execute("object-add", {
          "qom-type": "memory-backend-memfd",
          id: "more",
          size: PLUGGED * MiB,
          share: true,
        });
        await guest.execute("device_add", { driver: "pc-dimm", id: "dimm", memdev: "more" });
        const online = "grep -c Movable /proc/zoneinfo; free -m | awk '/Mem:/ { print $2 }'";
        await until(
          60_000,
          async () => (Number((await guest.run(online)).split("\n")[1]) > 900 ? true : null),
          "the guest to use more memory",
        );
        assert.ok(told(/A memory region is there/) > added, "ADD_MEM_REG arrived");
        await until(
          150_000,
          () => (counted() - used >= ENOUGH ? true : null),
          `${ENOUGH} requests with a buffer in plugged memory`,
        );
        assert.ok(holdings().regions > before.regions);
      },
      patient,
    );

    step(
      `memory is taken out while requests use it (${round})`,
      async () => {
        const removed = told(/A memory region is gone/);
        const gone = guest.event("DEVICE_DELETED", 200_000, ({ device }) => device === "dimm");
        await unplug(guest);
        await gone;
        await guest.execute("object-del", { id: "more" });
        assert.ok(told(/A memory region is gone/) > removed, "REM_MEM_REG arrived");
        const at = await laps();
        await until(60_000, async () => ((await laps()) > at + 1 ? true : null), "further laps");
        assert.deepEqual(holdings(), before, "nothing is left of it");
      },
      patient,
    );
  }

  step(
    "all that was read back was right",
    async () => {
      const done = "for i in $(seq 300); do [ -e /tmp/done ] && break; usleep 100000; done";
      await guest.run(`rm /tmp/busy; ${done}; [ -e /tmp/done ]`, slow);
      assert.equal(await guest.run("cat /tmp/wrong 2>/dev/null; true"), "");
      console.log(`# ${counted()} requests with plugged memory, ${await laps()} laps`);
    },
    patient,
  );
  end();
}

/** Asks for the memory until the guest gives it: pages in use may make it refuse. */
async function unplug(guest: Guest): Promise<void> {
  for (let tries = 0; ; tries++) {
    await guest.execute("device_del", { id: "dimm" });
    for (let i = 0; i < 100; i++) {
      await sleep(200);
      const list = (await guest.execute("query-memory-devices")) as unknown[];
      if (list.length === 0) return;
    }
    if (tries === 5) throw new Error("The guest does not give the memory back");
  }
}
