/** vhost-user-rng under QEMU, whose front-end gives it a queue of 4 entries. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startDevice } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { scenario } from "./scenario.ts";

const { folder, step, owns, end } = scenario("vhost-user-rng under QEMU");
const notWithStandIn = "it serves no entropy";
let guest: Guest;

step(
  "the guest takes the device as its source",
  async () => {
    const { socket } = owns("rng", await startDevice("rng", join(folder, "rng")));
    const devices = [
      ...["-chardev", `socket,id=c0,path=${socket}`],
      ...["-device", "vhost-user-rng-pci,chardev=c0"],
    ];
    guest = owns("guest", await bootGuest({ folder, devices, processors: 1, memory: 256 }));
    const current = await guest.run("cat /sys/class/misc/hw_random/rng_current");
    assert.match(current, /^virtio_rng\./);
  },
  { notWithStandIn },
);

step(
  "the device fills /dev/hwrng",
  async () => {
    const count = 256 * 1024;
    await guest.run(`head -c ${count} /dev/hwrng >/tmp/1`);
    assert.equal(await guest.run("stat -c %s /tmp/1"), `${count}`);
    // Random bytes do not compress: zeroes or repeats would.
    const packed = Number(await guest.run("gzip -c /tmp/1 | wc -c"));
    assert.ok(packed > count, `${count} bytes compress to ${packed}`);
    await guest.run(`head -c ${count} /dev/hwrng >/tmp/2`);
    assert.equal((await guest.ask("cmp /tmp/1 /tmp/2")).status, 1);
  },
  { notWithStandIn },
);

step(
  "reads of odd sizes come back whole",
  async () => {
    for (const size of [1, 7, 63, 64, 65, 4095, 10_007]) {
      const read = `dd if=/dev/hwrng bs=${size} count=1 iflag=fullblock 2>/dev/null | wc -c`;
      assert.equal(await guest.run(read), `${size}`);
    }
  },
  { notWithStandIn },
);

end();
