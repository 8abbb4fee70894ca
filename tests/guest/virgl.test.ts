/** vhost-user-gpu --virgl under QEMU: a Linux guest with Mesa's driver draws by OpenGL, without any GPU. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { noRenderer } from "../gpu/virgl.ts";
import { type BackEnd, startDevice } from "./back-end.ts";
import { drawing } from "./gpu.ts";
import { bootDrawing, type DrawingGuest, showsCube, startGraphicsDisk } from "./graphics.ts";
import { graphicsProblem } from "./lab.ts";
import { encodePicture, savePicture, wantsPictures } from "./pictures.ts";
import type { Picture } from "./pnm.ts";
import { scenario } from "./scenario.ts";
import { until } from "./wait.ts";

const problem = noRenderer === false ? graphicsProblem() : noRenderer;
const { folder, step: add, owns, end } = scenario("vhost-user-gpu --virgl under QEMU", problem);
const OUTPUT = "/tmp/cube";
let card: BackEnd;
let guest: DrawingGuest;

const step = (name: string, body: () => Promise<void>) =>
  add(name, body, { timeoutMs: 120_000, notWithStandIn: "it has no screen" });

/** Waits for another picture with a cube. */
async function turns(last: Picture): Promise<void> {
  const differs = async () => ((await guest.look()).pixels.equals(last.pixels) ? null : true);
  await until(20_000, differs, "the cube to turn");
  await showsCube(guest);
}

async function endsCube(): Promise<void> {
  await guest.run("kill $(pidof kmscube)");
  await guest.succeeds("! pidof kmscube", 20_000);
}

step("a guest finds a card with 3D, and Mesa its driver for it", async () => {
  const disk = owns("disk", await startGraphicsDisk(folder));
  const options = ["--virgl", "--max-hostmem=512M"];
  card = owns("card", await startDevice("gpu", join(folder, "gpu.sock"), options));
  guest = owns(
    "guest",
    await bootDrawing(folder, disk, [
      ...["-chardev", `socket,id=card,path=${card.socket}`],
      ...["-device", "vhost-user-gpu-pci,id=gpu,chardev=card"],
    ]),
  );
  await guest.prepare();
  assert.match(await guest.run("dmesg | grep 'drm. features'"), /\+virgl \+edid/);
  assert.match(await guest.inside("eglinfo"), /^EGL driver name: virtio_gpu$/m);
});

step("a program draws off the screen", async () => {
  const said = await guest.inside("kmscube --surfaceless --count=10");
  assert.match(said, /renderer: "virgl \(/);
});

step("a cube is on the screen, and turns", async () => {
  await guest.starts("kmscube", OUTPUT);
  const picture = await showsCube(guest);
  if (wantsPictures) savePicture("cube", encodePicture(picture));
  await turns(picture);
  assert.match(await guest.run(`cat ${OUTPUT}`), /renderer: "virgl \(/);
});

step("it turns on after a pause", async () => {
  await guest.execute("stop");
  const picture = await showsCube(guest);
  await guest.execute("cont");
  await turns(picture);
});

step("2D works while and after 3D does", async () => {
  await endsCube();
  await guest.draw(0);
  await guest.shows(drawing(0));
});

step("a driver that begins anew draws again", async () => {
  await guest.starts("kmscube", OUTPUT);
  await showsCube(guest);
  await guest.reset();
  await guest.prepare();
  await guest.starts("kmscube", OUTPUT);
  await turns(await showsCube(guest));
});

end();
