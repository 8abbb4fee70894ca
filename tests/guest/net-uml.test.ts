/**
 * A guest of User-Mode Linux, whose notifications travel in messages, at a switch with a tap as its way
 * out.
 */
import { join } from "node:path";
import { Namespace, tapProblem } from "../net/namespace.ts";
import { startDevice } from "./back-end.ts";
import { full, labProblem } from "./lab.ts";
import { sendFromGuest, sendToGuest } from "./netcat.ts";
import { scenario } from "./scenario.ts";
import { bootUml, type Uml } from "./uml.ts";

const MEBIBYTES = full ? 64 : 16;
const problem = labProblem() ?? tapProblem() ?? null;
const { folder, step, owns, end } = scenario("vhost-user-net under User-Mode Linux", problem);
let namespace: Namespace;
let uml: Uml;
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
  const args = ["--switch", `--socket-path=${other}`, "--tap=tap0"];
  const { socket } = owns(
    "net",
    await startDevice("net", join(folder, "net"), args, namespace.command()),
  );
  uml = owns("uml", await bootUml({ folder, devices: [{ socket, virtioId: 1 }], memory: 192 }));
  await uml.run("ip link set eth0 up && ip address add 10.79.0.2/24 dev eth0");
  await uml.run("ping -c 3 -i 0.2 -W 2 10.79.0.1");
});

step("data that it sends over TCP arrives", () => sendFromGuest(uml, ends(), MEBIBYTES));

step("data that it gets over TCP arrives", () => sendToGuest(uml, ends(), MEBIBYTES));

end();
