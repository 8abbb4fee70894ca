/** A guest behind passt, which gives it an address and carries its TCP connections both ways. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Namespace } from "../net/namespace.ts";
import {
  passtAddress,
  passtCommand,
  passtGateway,
  passtListens,
  passtProblem,
} from "../net/passt.ts";
import { startDevice } from "./back-end.ts";
import { full, labProblem } from "./lab.ts";
import { sendFromGuest, sendToGuest } from "./netcat.ts";
import { start } from "./processes.ts";
import { scenario } from "./scenario.ts";
import { bootUml, type Uml } from "./uml.ts";
import { until } from "./wait.ts";

const MEBIBYTES = full ? 64 : 16;
const problem = labProblem() ?? passtProblem() ?? null;
const { folder, step, owns, end } = scenario("a guest behind passt", problem);
let namespace: Namespace;
let uml: Uml;

const ends = () => ({
  namespace,
  hostAddress: passtGateway,
  // The port that passt forwards.
  guestAddress: "127.0.0.1",
  file: join(folder, "data"),
});

/** What a DHCP client calls when it has an address. */
const bound =
  '[ "$1" = bound ] || exit 0; ip address add $ip/$mask dev $interface; ' +
  "ip route add default via $router";

step("it gets its address by DHCP", async () => {
  namespace = new Namespace();
  owns("namespace", { log: () => "", stop: async () => namespace[Symbol.dispose]() });
  const socket = join(folder, "passt");
  const passt = start("passt", passtCommand(namespace, socket, "-t", "5001"));
  owns("passt", { log: passt.log, stop: () => passt.stop("SIGKILL").then(() => 0) });
  await until(10_000, () => passtListens(socket, passt.pid), "passt to listen");
  const backEnd = owns(
    "net",
    await startDevice("net", join(folder, "net"), [`--stream=${socket}`]),
  );
  const devices = [{ socket: backEnd.socket, virtioId: 1 }];
  uml = owns("uml", await bootUml({ folder, devices, memory: full ? 512 : 192 }));
  await uml.run(`printf '#!/bin/sh\\n%s\\n' '${bound}' >/tmp/bound; chmod +x /tmp/bound`);
  await uml.run("ip link set eth0 up; udhcpc -i eth0 -n -q -t 10 -T 1 -s /tmp/bound");
  assert.match(await uml.run("ip -4 address show eth0"), new RegExp(`${passtAddress}/24`));
});

step("it reaches a server in passt's namespace", () => sendFromGuest(uml, ends(), MEBIBYTES));

step("a client there reaches it", () => sendToGuest(uml, ends(), MEBIBYTES));

end();
