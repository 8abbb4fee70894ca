/**
 * Resizing at run time by QEMU's display: somebody asks for a size over D-Bus, as remote-desktop programs do, and the
 * guest's driver learns of it from vhost-user-gpu. Of QEMU's displays this one alone needs no GPU.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { skipWithout, skipWithoutFile } from "../support/requirements.ts";
import { startDevice } from "./back-end.ts";
import { bootGraphical, type GraphicalGuest, SIZE } from "./gpu.ts";
import { start } from "./processes.ts";
import { scenario } from "./scenario.ts";
import { until } from "./wait.ts";

const { folder, step, owns, end } = scenario("A display that resizes a guest's screen");
const packages = "install Debian's dbus-daemon and dbus-bin";
const options = {
  notWithStandIn: "it has no screen",
  skip: skipWithout("dbus-daemon", packages) || skipWithoutFile("/usr/bin/dbus-send", packages),
};
const bus = `unix:path=${join(folder, "bus")}`;
let guest: GraphicalGuest;

/** Calls a method of QEMU's first console. */
async function call(method: string, ...args: string[]): Promise<void> {
  const target = ["--dest=org.qemu", "/org/qemu/Display1/Console_0"];
  const name = `org.qemu.Display1.Console.${method}`;
  const command = ["dbus-send", `--bus=${bus}`, "--print-reply", ...target, name, ...args];
  const sent = start("dbus-send", command);
  assert.equal(await sent.ended, 0, sent.log());
}

/** Waits until the guest prefers a size, and QEMU shows the guest's console in that size. */
async function shown(width: number, height: number): Promise<void> {
  const size = `${width}x${height}`;
  const probe = async () => {
    const preferred = await guest.run("cat /sys/class/drm/card0-*/modes | head -n 1");
    const picture = await guest.look();
    return `${picture.width}x${picture.height}` === size && preferred === size ? true : null;
  };
  await until(20_000, probe, `the guest's screen to be ${size}`);
}

step(
  "a guest starts with the size that QEMU proposes",
  async () => {
    const daemon = ["dbus-daemon", "--session", "--nofork", "--nopidfile", `--address=${bus}`];
    owns("bus", start("bus", daemon));
    await until(10_000, () => (existsSync(join(folder, "bus")) ? true : null), "the bus");
    const { socket } = owns("gpu", await startDevice("gpu", join(folder, "gpu.sock")));
    const chardev = ["-chardev", `socket,id=card,path=${socket}`];
    const card = ["-device", "vhost-user-gpu-pci,id=gpu,chardev=card"];
    const display = ["-display", `dbus,addr=${bus}`];
    guest = owns("guest", await bootGraphical(folder, [...chardev, ...card, ...display]));
    await guest.loadDriver();
    await shown(SIZE.width, SIZE.height);
  },
  options,
);

step(
  "and follows each size that is asked for",
  async () => {
    // Not above the first size: the console's memory is what it was made for.
    for (const [width, height] of [
      [904, 700],
      [1000, 600],
    ] as const) {
      const millimetres = ["uint16:0", "uint16:0"];
      const place = ["int32:0", "int32:0"];
      await call("SetUIInfo", ...millimetres, ...place, `uint32:${width}`, `uint32:${height}`);
      await shown(width, height);
    }
  },
  options,
);

end();
