/** vhost-user-net at a tap in a network namespace, with a Linux guest of QEMU. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Namespace, tapProblem } from "../net/namespace.ts";
import { type BackEnd, startNet } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full, lab, labProblem } from "./lab.ts";
import { type Running, start } from "./processes.ts";
import { scenario } from "./scenario.ts";
import { sleep, within } from "./wait.ts";

const MEBIBYTES = full ? 64 : 16;
const { folder, step, owns, end } = scenario(
  "vhost-user-net under QEMU",
  labProblem() ?? tapProblem() ?? null,
);
const socket = join(folder, "net");
const file = join(folder, "data");
let namespace: Namespace;
let backEnd: BackEnd;
let guest: Guest;

const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

/**
 * A netcat that ends when the other side has sent all. It reads from a pipe that nobody writes to: one
 * with nothing to send would tell its peer at once, which ends on that.
 */
const receive = (port: number, into: string, nc: string) =>
  `rm -f ${into}.pipe; mkfifo ${into}.pipe; exec 3<>${into}.pipe; ${nc} -l -p ${port} <&3 >${into}`;

/** A command line of the lab's shell in the namespace. */
const inside = (name: string, command: string): Running =>
  start(name, namespace.command(lab.run, "busybox", "sh", "-c", command));

const hostNc = `${lab.run} busybox nc`;

async function startBackEnd(): Promise<void> {
  const args = ["--tap=tap0", "--queue-pairs=2"];
  backEnd = owns("net", await startNet(socket, args, namespace.command()));
}

function guestDevice(...options: readonly string[]): string[] {
  return [
    ...["-chardev", `socket,id=c0,path=${socket},reconnect-ms=100`],
    ...["-netdev", "vhost-user,id=n0,chardev=c0,queues=2"],
    ...["-device", ["virtio-net-pci,netdev=n0,mq=on,vectors=6", ...options].join(",")],
  ];
}

const configure = "ip link set eth0 up && ip address add 10.77.0.2/24 dev eth0";

/** The guest sends random data to the namespace, and gets it back on another connection. */
async function transfer(during: () => Promise<void> = async () => {}): Promise<void> {
  const wanted = await guest.run(
    `dd if=/dev/urandom of=/tmp/data bs=1M count=${MEBIBYTES} 2>/dev/null; md5sum /tmp/data`,
  );
  const server = inside("nc", receive(5000, file, hostNc));
  await sleep(300);
  const sending = guest.run("nc 10.77.0.1 5000 </tmp/data", { timeoutMs: 80_000 });
  await during();
  await sending;
  await within(10_000, server.ended, "nc to end");
  assert.equal(md5(readFileSync(file)), wanted.split(" ")[0]);
}

async function fetch(): Promise<void> {
  const data = randomBytes(MEBIBYTES * 1024 * 1024);
  writeFileSync(file, data);
  const receiving = guest.run(`${receive(5001, "/tmp/got", "nc")}; md5sum /tmp/got`, {
    timeoutMs: 80_000,
  });
  await sleep(1000);
  const client = inside("nc", `${hostNc} 10.77.0.2 5001 <${file}`);
  assert.equal((await receiving).split(" ")[0], md5(data));
  await within(10_000, client.ended, "nc to end");
}

const ping = (size = 56) => guest.run(`ping -c 3 -i 0.2 -W 2 -s ${size} 10.77.0.1`);

step("a guest with two queue pairs and an MTU of 9000 boots and is answered", async () => {
  namespace = new Namespace();
  namespace.tap("tap0", "10.77.0.1/24", true);
  namespace.ip("link", "set", "tap0", "mtu", "9000");
  await startBackEnd();
  const devices = guestDevice("host_mtu=9000", "guest_announce=off");
  guest = owns("guest", await bootGuest({ folder, devices }));
  await guest.run(configure);
  assert.match(backEnd.log(), /The front-end sets the MTU \(bytes=9000\)/);
  assert.equal(await guest.run("cat /sys/class/net/eth0/mtu"), "9000");
  assert.equal(await guest.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"), "2");
  await ping();
  await ping(8000);
});

step("data that the guest sends over TCP arrives", () => transfer());

step("data that the guest gets over TCP arrives", () => fetch());

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
  await transfer(async () => {
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
  const devices = guestDevice("packed=on", ...off.map((name) => `${name}=off`));
  guest = owns("guest", await bootGuest({ folder, devices }));
  await guest.run(configure);
  namespace.ip("link", "set", "tap0", "mtu", "1500");
  await ping();
  await transfer();
  await fetch();
});

end();
