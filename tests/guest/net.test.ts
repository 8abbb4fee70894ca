/** vhost-user-net at a tap in a network namespace, with a Linux guest of QEMU. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Namespace, tapProblem } from "../net/namespace.ts";
import { buildTool } from "../tools/build.ts";
import { type BackEnd, startDevice } from "./back-end.ts";
import { withPrograms } from "./extra-files.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full, labProblem } from "./lab.ts";
import { sendFromGuest, sendToGuest } from "./netcat.ts";
import { scenario } from "./scenario.ts";
import { sleep } from "./wait.ts";

const MEBIBYTES = full ? 64 : 16;
const { folder, step, owns, end } = scenario(
  "vhost-user-net under QEMU",
  labProblem() ?? tapProblem() ?? null,
);
const socket = join(folder, "net");
let namespace: Namespace;
let backEnd: BackEnd;
let guest: Guest;

const ends = () => ({
  namespace,
  hostAddress: "10.77.0.1",
  guestAddress: "10.77.0.2",
  file: join(folder, "data"),
});

async function startBackEnd(): Promise<void> {
  const args = ["--tap=tap0", "--queue-pairs=2"];
  backEnd = owns("net", await startDevice("net", socket, args, namespace.command()));
}

function guestDevice(...options: readonly string[]): string[] {
  return [
    ...["-chardev", `socket,id=c0,path=${socket},reconnect-ms=100`],
    ...["-netdev", "vhost-user,id=n0,chardev=c0,queues=2"],
    ...["-device", ["virtio-net-pci,netdev=n0,mq=on,vectors=6", ...options].join(",")],
  ];
}

const configure = "ip link set eth0 up && ip address add 10.77.0.2/24 dev eth0";

async function boot(...options: readonly string[]): Promise<void> {
  const ringSize = buildTool("tests/guest/programs/ring-size.c", { flags: ["-static"] });
  const initrd = withPrograms(folder, { "ring-size": ringSize });
  guest = owns("guest", await bootGuest({ folder, initrd, devices: guestDevice(...options) }));
  await guest.run(configure);
}

/** What `ethtool -G` does is to reset queues. QEMU would not tell us: the driver must not be able to. */
async function triesToResizeRings(): Promise<void> {
  const said = await guest.run("/extra/ring-size eth0 64 128 2>&1 || true");
  assert.match(said, /^ETHTOOL_SRINGPARAM: /);
  assert.equal(await guest.run("/extra/ring-size eth0"), "256 256");
  await ping();
}

const ping = (size = 56) => guest.run(`ping -c 3 -i 0.2 -W 2 -s ${size} 10.77.0.1`);

step("a guest with two queue pairs and an MTU of 9000 boots and is answered", async () => {
  namespace = new Namespace();
  owns("namespace", { log: () => "", stop: async () => namespace[Symbol.dispose]() });
  namespace.tap("tap0", "10.77.0.1/24", true);
  namespace.ip("link", "set", "tap0", "mtu", "9000");
  await startBackEnd();
  await boot("host_mtu=9000", "guest_announce=off");
  assert.match(backEnd.log(), /The front-end sets the MTU \(bytes=9000\)/);
  assert.equal(await guest.run("cat /sys/class/net/eth0/mtu"), "9000");
  assert.equal(await guest.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"), "2");
  await ping();
  await ping(8000);
});

step("data that the guest sends over TCP arrives", () => sendFromGuest(guest, ends(), MEBIBYTES));

step("data that the guest gets over TCP arrives", () => sendToGuest(guest, ends(), MEBIBYTES));

step("rings keep their sizes, for QEMU says nothing of RING_RESET", triesToResizeRings);

step("the link goes down and up again", async () => {
  await guest.execute("set_link", { name: "n0", up: false });
  await sleep(300);
  assert.equal(await guest.run("cat /sys/class/net/eth0/carrier"), "0");
  await guest.execute("set_link", { name: "n0", up: true });
  await sleep(300);
  assert.equal(await guest.run("cat /sys/class/net/eth0/carrier"), "1");
  await ping();
});

step("a transfer goes on when the back-end is killed and started again", async () => {
  await sendFromGuest(guest, ends(), MEBIBYTES, async () => {
    await sleep(1000);
    await backEnd.stop("SIGKILL");
    await sleep(200);
    await startBackEnd();
  });
  await ping();
});

step("without offloads, on packed rings and with an MTU of 1500 it goes on", async () => {
  await guest.execute("quit").catch(() => {});
  await guest.stop();
  const off = ["csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo"];
  off.push("host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf");
  await boot("packed=on", ...off.map((name) => `${name}=off`));
  namespace.ip("link", "set", "tap0", "mtu", "1500");
  await ping();
  await sendFromGuest(guest, ends(), MEBIBYTES);
  await sendToGuest(guest, ends(), MEBIBYTES);
  await triesToResizeRings();
});

end();
