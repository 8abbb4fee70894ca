/**
 * Guests of one switch: two of QEMU in one VLAN, one of which moves to another port while it is sent
 * data, and one of User-Mode Linux in another VLAN.
 */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isListening } from "../support/process-status.ts";
import { type BackEnd, startDevice } from "./back-end.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { sendBetween } from "./netcat.ts";
import { scenario } from "./scenario.ts";
import { bootUml, type Uml } from "./uml.ts";
import { sleep, until } from "./wait.ts";

const MiB = 1024 * 1024;
const MEBIBYTES = full ? 64 : 8;
/** MiB that a guest is sent while it moves. */
const MOVED = 12;
/** Bytes that tell that data came by a port: less than the first window of TCP, which may be all for a while. */
const ENOUGH = 16 * 1024;
const { folder, step, owns, end } = scenario("guests of one switch");

/** Ports of the switch by name, with their VLANs. */
const vlans = { first: 1, second: 1, other: 2, target: 1 } as const;
type Port = keyof typeof vlans;
const socket = (port: Port) => join(folder, port);
let backEnd: BackEnd;
let first: Guest;
let second: Guest;
let other: Uml;

async function startSwitch(): Promise<void> {
  const [one, ...more] = Object.keys(vlans).map((port) => socket(port as Port));
  const args = ["--switch", ...more.map((path) => `--socket-path=${path}`)];
  args.push(...Object.values(vlans).map((vlan) => `--vlan=${vlan}`));
  backEnd = owns("switch", await startDevice("net", one!, args));
  const last = more.at(-1)!;
  await until(5000, () => (isListening(last, backEnd.pid) ? true : null), `a listener on ${last}`);
}

/** `mac` is the last byte of the address. */
async function boot(port: Port, mac: number, incoming = false): Promise<Guest> {
  const own = join(folder, `${port} guest`);
  mkdirSync(own);
  const devices = [
    ...["-chardev", `socket,id=c0,path=${socket(port)}`],
    ...["-netdev", "vhost-user,id=n0,chardev=c0"],
    ...["-device", `virtio-net-pci,netdev=n0,guest_announce=off,mac=52:54:00:00:00:0${mac}`],
  ];
  const machine = { memory: full ? 512 : 256, kernelArguments: "init_on_alloc=0" };
  return owns(port, await bootGuest({ folder: own, devices, incoming, ...machine }));
}

const configure = (last: number) =>
  `ip link set eth0 up && ip address add 10.80.0.${last}/24 dev eth0`;
const ping = (guest: Guest, last: number) => guest.run(`ping -c 3 -i 0.2 -W 2 10.80.0.${last}`);

/** What the switch says that its ports have carried and lost by now. */
async function counters(): Promise<Record<Port, Record<string, number>>> {
  const from = backEnd.log().length;
  process.kill(backEnd.pid, "SIGHUP");
  const ports = Object.keys(vlans) as Port[];
  const find = () => {
    const lines =
      backEnd
        .log()
        .slice(from)
        .match(/Frames so far \(.*\)/g) ?? [];
    if (lines.length < ports.length) return null;
    const of = (port: Port) => {
      const line = lines.find((text) => text.includes(`${socket(port)}`)) ?? "";
      const pairs = [...line.matchAll(/(\w+)=(\d+)\b/g)];
      return [port, Object.fromEntries(pairs.map(([, name, value]) => [name, Number(value)]))];
    };
    return Object.fromEntries(ports.map(of)) as Record<Port, Record<string, number>>;
  };
  return until(5000, find, "the switch's counters");
}

interface Progress {
  readonly status: string;
  readonly ram?: { readonly "dirty-sync-count": number };
}

async function moved(from: Guest, test: (progress: Progress) => boolean): Promise<void> {
  const ask = async () => {
    const progress = (await from.execute("query-migrate")) as Progress;
    assert.doesNotMatch(progress.status, /failed|cancelled/);
    return test(progress) ? true : null;
  };
  await until(60_000, ask, "the guest to move");
}

/** Begins to move a guest, whose memory keeps changing, and waits until all of it was sent once. */
async function beginMove(from: Guest, to: Guest): Promise<void> {
  await from.run("head -c 24M /dev/urandom >/tmp/noise; touch /tmp/dirtying");
  await from.run(
    "(while [ -e /tmp/dirtying ]; do cat /tmp/noise >/tmp/dirt; done) >/dev/null 2>&1 &",
  );
  const uri = `unix:${join(folder, "move")}`;
  await to.execute("migrate-incoming", { uri });
  const limits = { "max-bandwidth": 32 * MiB, "downtime-limit": 1 };
  await from.execute("migrate-set-parameters", limits);
  await from.execute("migrate", { uri });
  await moved(from, ({ ram }) => (ram?.["dirty-sync-count"] ?? 0) >= 2);
  // The rest takes as long as we like.
  await from.execute("migrate-set-parameters", { "max-bandwidth": 2 * MiB });
}

async function endMove(from: Guest): Promise<void> {
  await from.run("rm /tmp/dirtying");
  const limits = { "max-bandwidth": 1024 * MiB, "downtime-limit": 2000 };
  await from.execute("migrate-set-parameters", limits);
  await moved(from, ({ status }) => status === "completed");
}

step("three guests boot at one program, and those of one VLAN hear each other", async () => {
  await startSwitch();
  [first, second, other] = await Promise.all([
    boot("first", 1),
    boot("second", 2),
    bootUml({ folder, devices: [{ socket: socket("other"), virtioId: 1 }], memory: 192 }),
  ]);
  owns("other", other);
  await first.run(configure(1));
  await second.run(configure(2));
  await other.run(configure(3));
  await ping(first, 2);
});

step("data that one sends to the other over TCP arrives", async () => {
  await sendBetween({ from: first, to: second, address: "10.80.0.2", mebibytes: MEBIBYTES });
  await sendBetween({ from: second, to: first, address: "10.80.0.1", mebibytes: MEBIBYTES });
});

step("one guest moves to another port while it is sent data", async () => {
  const before = await counters();
  const target = await boot("target", 2, true);
  await beginMove(second, target);
  // What comes now is written to memory that was sent, and only the dirty log tells of it.
  const transfer = { from: first, to: second, address: "10.80.0.2", mebibytes: MOVED };
  await sendBetween(transfer, async () => {
    const begun = async () => {
      await sleep(400);
      const { second: now } = await counters();
      return now.rxBytes! - before.second.rxBytes! > ENOUGH ? true : null;
    };
    await until(20_000, begun, "data to come by the first port");
    await endMove(second);
    return target;
  });
  assert.match(backEnd.log(), /moved here .*target/);
  assert.match(backEnd.log(), /Announced the interface .*target, mac=52:54:00:00:00:02/);
  const after = await counters();
  for (const port of ["second", "target"] as const) {
    const bytes = after[port].rxBytes! - before[port].rxBytes!;
    assert.ok(bytes > ENOUGH, `${bytes} bytes came by ${port}`);
  }
  // What is known of its new port stays when the old one is free.
  await second.stop();
  await ping(first, 2);
});

step("the guest of the other VLAN has seen nothing", async () => {
  const { status } = await other.ask("ping -c 2 -i 0.2 -W 1 10.80.0.1");
  assert.equal(status, 1);
  assert.equal(await other.run("cat /sys/class/net/eth0/statistics/rx_packets"), "0");
  const { rxFrames, rxDropped, rxFiltered, txDropped } = (await counters()).other;
  assert.deepEqual([rxFrames, rxDropped, rxFiltered], [0, 0, 0]);
  assert.ok(txDropped! > 0, "there is nobody whom it could reach");
});

end();
