/**
 * A guest of User-Mode Linux, whose notifications travel in messages, at a switch with a tap as its way
 * out.
 */
import assert from "node:assert/strict";
import { createConnection } from "node:net";
import { join } from "node:path";
import { NetFeature } from "../../frontend/mod.ts";
import { Namespace, tapProblem } from "../net/namespace.ts";
import { startDevice } from "./back-end.ts";
import { full, labProblem } from "./lab.ts";
import { sendFromGuest, sendToGuest } from "./netcat.ts";
import { scenario } from "./scenario.ts";
import { bootUml, type Uml } from "./uml.ts";
import { until, within } from "./wait.ts";

const MEBIBYTES = full ? 64 : 16;
const problem = labProblem() ?? tapProblem() ?? null;
const { folder, step, owns, end } = scenario("vhost-user-net under User-Mode Linux", problem);
let namespace: Namespace;
let uml: Uml;
const monitor = () => join(folder, "monitor");
const ends = () => ({
  namespace,
  hostAddress: "10.79.0.1",
  guestAddress: "10.79.0.2",
  file: join(folder, "data"),
});

step("the guest is answered through the switch", async () => {
  namespace = new Namespace();
  owns("namespace", { log: () => "", stop: async () => namespace[Symbol.dispose]() });
  namespace.tap("tap0", "10.79.0.1/24");
  const other = join(folder, "other");
  const args = ["--switch", `--socket-path=${other}`, "--tap=tap0", `--monitor=${monitor()}`];
  const { socket } = owns(
    "net",
    await startDevice("net", join(folder, "net"), args, namespace.command()),
  );
  uml = owns(
    "uml",
    await bootUml({ folder, devices: [{ socket, virtioId: 1 }], memory: full ? 512 : 192 }),
  );
  await uml.run("ip link set eth0 up && ip address add 10.79.0.2/24 dev eth0");
  await uml.run("ping -c 3 -i 0.2 -W 2 10.79.0.1");
});

/** The answer of the program's monitor to a command. */
function ask(command: string): Promise<string> {
  const socket = createConnection(monitor());
  const answer = new Promise<string>((resolve, reject) => {
    socket.once("data", (data) => resolve(String(data).trim()));
    socket.once("error", reject);
  });
  socket.write(`${command}\n`);
  return within(5000, answer, "the monitor").finally(() => socket.destroy());
}

const carrier = (wanted: string) =>
  until(
    5000,
    async () => ((await uml.run("cat /sys/class/net/eth0/carrier")) === wanted ? true : null),
    `a carrier of ${wanted}`,
  );

step("the operator takes the link down and puts it up again", async () => {
  assert.equal(await ask("link down 0"), "ok");
  await carrier("0");
  assert.equal(await ask("link up 0"), "ok");
  await carrier("1");
  await uml.run("ping -c 3 -i 0.2 -W 2 10.79.0.1");
});

step("its driver's commands on the control queue are carried out", async () => {
  const features = await uml.run("cat /sys/bus/virtio/devices/virtio0/features");
  for (const name of ["CTRL_VQ", "CTRL_RX", "CTRL_MAC_ADDR", "STATUS"] as const) {
    assert.equal(features[NetFeature[name]], "1", name);
  }
  // The kernel sets an address only when the device has agreed.
  await uml.run("ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:77");
  await uml.run("ip link set eth0 up && ping -c 3 -i 0.2 -W 2 10.79.0.1");
  assert.equal(await uml.run("cat /sys/class/net/eth0/address"), "02:00:00:00:00:77");
});

step("data that it sends over TCP arrives", () => sendFromGuest(uml, ends(), MEBIBYTES));

step("data that it gets over TCP arrives", () => sendToGuest(uml, ends(), MEBIBYTES));

end();
