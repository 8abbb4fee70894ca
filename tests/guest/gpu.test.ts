/** vhost-user-gpu under QEMU: its picture is that of QEMU's own card, whatever happens to the machine. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decode } from "fast-png";
import { noBrowser } from "../support/browser.ts";
import { mappingsOf } from "../support/process-status.ts";
import { skipWithoutFile } from "../support/requirements.ts";
import { buildTool } from "../tools/build.ts";
import { type BackEnd, runtime, startDesktop, startDevice } from "./back-end.ts";
import { type Onlooker, openPage } from "./desktop.ts";
import { bootGraphical, drawing, type GraphicalGuest, SIZE } from "./gpu.ts";
import { full } from "./lab.ts";
import { savePicture, wantsPictures } from "./pictures.ts";
import type { Picture } from "./pnm.ts";
import { type StepOptions, scenario } from "./scenario.ts";
import { until } from "./wait.ts";

const { folder, step: add, owns, end } = scenario("vhost-user-gpu under QEMU");
const text = "Ringside draws this line.\\nAnd this one: 0123456789";
const screenshot = join(folder, "screen.png");
const slow = { timeoutMs: 150_000, notWithStandIn: "it has no screen" };
let own: Picture;
let backEnd: BackEnd;
let guest: GraphicalGuest;
let onlooker: Onlooker;

const step = (name: string, body: () => Promise<void>, options: StepOptions = {}) =>
  add(name, body, { ...slow, ...options });

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

const HEADERS = "/usr/include/libdrm";
const noHeaders = skipWithoutFile(`${HEADERS}/drm_mode.h`, "install Debian's libdrm-dev");
/** How often the mode changes before the picture is looked at, and then again. */
const changes = full ? [30, 70] : [5, 10];

const screenshots = `--screenshot=${screenshot}`;

/** QEMU arguments of a device on a socket. */
const attached = (device: string, id: string, path: string) => [
  ...["-chardev", `socket,id=${id}-socket,path=${path}`],
  ...["-device", `${device},id=${id},chardev=${id}-socket`],
];

async function boot(name: string, devices: string[]): Promise<void> {
  const flags = ["-static", `-I${HEADERS}`];
  const build = () => buildTool("tests/guest/programs/modes.c", { flags });
  const programs: Record<string, string> = noHeaders === false ? { modes: build() } : {};
  guest = owns("guest", await bootGraphical(place(name), devices, programs));
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
  const sockets = place("desktop");
  backEnd = owns("desktop", await startDesktop(sockets, [screenshots]));
  await boot("pci", [
    ...attached("vhost-user-gpu-pci", "gpu", join(sockets, "gpu.sock")),
    ...attached("vhost-user-input-pci", "keyboard", join(sockets, "keyboard.sock")),
    ...attached("vhost-user-input-pci", "tablet", join(sockets, "tablet.sock")),
  ]);
  const mode = await guest.run("cat /sys/class/drm/card0-*/modes | head -n 1");
  assert.equal(mode, `${SIZE.width}x${SIZE.height}`);
  await guest.draw(0);
  await guest.shows(drawing(0));
  await guest.draw(1);
  await guest.shows(drawing(1));
  await guest.write(text);
  await guest.shows(own.pixels);
});

const inBrowser = { skip: noBrowser };

step(
  "a browser shows the same",
  async () => {
    onlooker = owns("browser", await openPage(backEnd));
    await onlooker.shows(own.pixels);
    await guest.draw(1);
    await onlooker.shows(drawing(1));
  },
  inBrowser,
);

step(
  "what is typed in the browser reaches the guest's console",
  async () => {
    await guest.write("What is your name?");
    // What is typed while nobody has the console open is lost.
    await guest.run("exec 3</dev/tty1; (head -n 1 <&3 >/tmp/typed; echo >/tmp/end) & exec 3<&-");
    await onlooker.page.keyboard.press("Shift+KeyR");
    await onlooker.page.keyboard.type("ingside, 2 of 2\n");
    await guest.succeeds("[ -e /tmp/end ]", 20_000);
    assert.equal(await guest.run("cat /tmp/typed"), "Ringside, 2 of 2");
    if (!wantsPictures) return;
    const commands = ["uname -srm", "cat /proc/cpuinfo | head -n 9", "ls /", "dmesg | grep -i drm"];
    const lines = commands.map((text) => `echo "# ${text}"; ${text}`).join("; ");
    await guest.run(`(${lines}; printf '# ') >/dev/tty1 2>&1`);
    await onlooker.shows((await settled(guest)).pixels);
    savePicture("desktop", await onlooker.page.screenshot());
  },
  inBrowser,
);

step(
  `${changes[0]! + changes[1]!} changes of the mode leave the right picture, and nothing else`,
  async () => {
    const card = "$(ls /dev/dri/card* | head -n 1)";
    const images = () => mappingsOf(backEnd.pid, "ringside-image");
    await guest.draw(0);
    const before = images();
    for (const count of changes) {
      await guest.run(
        `rm -f /tmp/mode; /extra/modes ${card} ${count} /tmp/mode & echo $! >/tmp/pid`,
      );
      await guest.succeeds("[ -e /tmp/mode ]", 120_000);
      const [seed, width, height, modes] = (await guest.run("cat /tmp/mode"))
        .split(" ")
        .map(Number);
      assert.ok(modes! > 1, "there is more than one mode");
      const size = { width: width!, height: height! };
      await guest.shows(drawing(seed!, size));
      const picture = await guest.look();
      assert.deepEqual({ width: picture.width, height: picture.height }, size);
      if (noBrowser === false) await onlooker.shows(drawing(seed!, size));
      await guest.run("kill $(cat /tmp/pid)");
      await guest.succeeds("[ ! -e /proc/$(cat /tmp/pid) ]", 30_000);
    }
    await guest.draw(0);
    await guest.shows(drawing(0));
    assert.equal(images(), before);
  },
  { skip: noHeaders },
);

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
  const socket = join(place("vga"), "gpu");
  backEnd = owns("gpu", await startDevice("gpu", socket));
  await boot("vga", attached("vhost-user-vga", "gpu", socket));
  await guest.draw(1);
  await guest.shows(drawing(1));
  await guest.write(text);
  await guest.shows(own.pixels);
});

end();
