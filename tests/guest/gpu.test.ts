/** vhost-user-gpu under QEMU: its picture is that of QEMU's own card, whatever happens to the machine. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decode } from "fast-png";
import { type BackEnd, runtime, startDevice } from "./back-end.ts";
import { bootGraphical, drawing, type GraphicalGuest, SIZE } from "./gpu.ts";
import type { Picture } from "./pnm.ts";
import { scenario } from "./scenario.ts";
import { until } from "./wait.ts";

const { folder, step: add, owns, end } = scenario("vhost-user-gpu under QEMU");
const text = "Ringside draws this line.\\nAnd this one: 0123456789";
const screenshot = join(folder, "screen.png");
const slow = { timeoutMs: 150_000, notWithStandIn: "it has no screen" };
let own: Picture;
let backEnd: BackEnd;
let guest: GraphicalGuest;

const step = (name: string, body: () => Promise<void>) => add(name, body, slow);

/** A folder of a guest of its own. */
function place(name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** Text takes its time: the picture is the one that stays. */
async function settled(of: GraphicalGuest): Promise<Picture> {
  let last = await of.look();
  return until(
    20_000,
    async () => {
      const next = await of.look();
      const same = next.pixels.equals(last.pixels) && next.pixels.some((byte) => byte !== 0);
      last = next;
      return same ? next : null;
    },
    "a picture that stays",
  );
}

async function bootOurs(name: string, device: string): Promise<void> {
  const socket = join(place(name), "gpu");
  backEnd = owns("gpu", await startDevice("gpu", socket, [`--screenshot=${screenshot}`]));
  const devices = [
    "-chardev",
    `socket,id=c0,path=${socket}`,
    "-device",
    `${device},id=gpu,chardev=c0`,
  ];
  guest = owns("guest", await bootGraphical(place(name), devices));
  await guest.loadDriver();
}

step("QEMU's own card shows drawings and text", async () => {
  const reference = await bootGraphical(place("own"), ["-device", "virtio-gpu-pci,id=gpu"]);
  owns("guest", reference);
  await reference.loadDriver();
  await reference.draw(0);
  await reference.shows(drawing(0));
  await reference.write(text);
  own = await settled(reference);
  await reference.stop();
});

step("a guest with our card shows the same", async () => {
  await bootOurs("pci", "vhost-user-gpu-pci");
  const mode = await guest.run("cat /sys/class/drm/card0-*/modes | head -n 1");
  assert.equal(mode, `${SIZE.width}x${SIZE.height}`);
  await guest.draw(0);
  await guest.shows(drawing(0));
  await guest.draw(1);
  await guest.shows(drawing(1));
  await guest.write(text);
  await guest.shows(own.pixels);
});

step("the guest reads the monitor's EDID", async () => {
  const bytes = await guest.run("cat /sys/class/drm/card0-*/edid | wc -c");
  assert.ok(Number(bytes) >= 128, `${bytes} bytes`);
});

step("the screen is saved on a signal", async () => {
  await guest.draw(0);
  await guest.shows(drawing(0));
  // Deno would open its debugger too.
  process.kill(backEnd.pid, runtime === "deno" ? "SIGUSR2" : "SIGUSR1");
  await until(10_000, () => (existsSync(screenshot) ? true : null), "the file");
  const { width, height, data } = decode(readFileSync(screenshot));
  assert.deepEqual({ width, height }, SIZE);
  const wanted = drawing(0);
  const wrong = data.findIndex(
    (colour, i) => colour !== wanted[Math.floor(i / 3) * 4 + 2 - (i % 3)],
  );
  assert.equal(wrong, -1);
});

step("the picture outlives stop and cont", async () => {
  for (let i = 0; i < 3; i++) {
    await guest.execute("stop");
    await guest.execute("cont");
    await guest.shows(drawing(0));
  }
  await guest.draw(1);
  await guest.shows(drawing(1));
});

step("the driver can be unbound and bound again", async () => {
  const driver = "/sys/bus/virtio/drivers/virtio_gpu";
  await guest.run("for t in /sys/class/vtconsole/vtcon1/bind; do [ ! -e $t ] || echo 0 >$t; done");
  for (let i = 0; i < 3; i++) {
    await guest.run(
      `d=$(basename $(ls -d ${driver}/virtio*)); echo $d >${driver}/unbind; [ ! -e /dev/fb0 ] && ` +
        `echo $d >${driver}/bind; [ -e /dev/fb0 ]`,
      { timeoutMs: 60_000 },
    );
    await guest.draw(0);
    await guest.shows(drawing(0));
    await guest.draw(1);
    await guest.shows(drawing(1));
  }
});

step("the guest draws again after system_reset", async () => {
  await guest.reset();
  await guest.loadDriver();
  await guest.draw(0);
  await guest.shows(drawing(0));
  await guest.write(text);
  await guest.shows(own.pixels);
});

step("vhost-user-vga shows the same", async () => {
  await guest.stop();
  await backEnd.stop();
  await bootOurs("vga", "vhost-user-vga");
  await guest.draw(1);
  await guest.shows(drawing(1));
  await guest.write(text);
  await guest.shows(own.pixels);
});

end();
