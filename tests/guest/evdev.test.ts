/**
 * `vhost-user-input --evdev-path` on true input devices: a guest makes them by uinput, serves them and
 * drives them, all within. Other tests have a library make the devices up.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildTool } from "../tools/build.ts";
import { runtime } from "./back-end.ts";
import { librariesOf, withPrograms } from "./extra-files.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { lab, repository } from "./lab.ts";
import { scenario } from "./scenario.ts";

const { folder, step: add, owns, end } = scenario("evdev in a guest");
const notWithStandIn = "it has no input device";
const step = (name: string, body: () => Promise<void>) =>
  add(name, body, { notWithStandIn, timeoutMs: 150_000 });
let guest: Guest;

const modules = join(repository, "node_modules");
const bun = join(modules, "bun/bin/bun.exe");
const programs = { bun, deno: join(modules, "deno/deno") };
const flags = {
  bun: "--no-install",
  deno: "run -A --no-check --cached-only --no-lock --no-config",
};
const name = runtime === "deno" ? "deno" : "bun";

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

/** Makes a disk with the runtime, its libraries and the program. */
function makeDisk(): string {
  const tree = join(folder, "root");
  const put = (from: string, to: string) => {
    mkdirSync(dirname(join(tree, to)), { recursive: true });
    copyFileSync(from, join(tree, to));
  };
  for (const name of ["dev", "proc", "sys", "tmp"])
    mkdirSync(join(tree, name), { recursive: true });
  for (const path of Object.values(librariesOf(programs[name]))) put(path, path);
  put(programs[name], "program/runtime");
  put(join(repository, "package.json"), "program/package.json");
  const source = join(repository, "tests/guest/programs/evdev.ts");
  const output = `--outfile=${join(tree, "program/evdev.js")}`;
  run(bun, "build", "--target=node", "--external=bun:ffi", output, source);
  const image = join(folder, "root.img");
  writeFileSync(image, "");
  run(lab.run, "mke2fs", "-q", "-t", "ext4", "-d", tree, image, "384M");
  return image;
}

const inside = (args: string) =>
  `HOME=/tmp DENO_DIR=/tmp/deno DENO_NO_UPDATE_CHECK=1 chroot /root ` +
  `/program/runtime ${flags[name]} /program/evdev.js ${args}`;

interface Found {
  readonly name: string;
  readonly ids: readonly number[];
  readonly properties: readonly number[];
  readonly bits: Readonly<Record<string, readonly number[]>>;
  readonly axes: Readonly<Record<string, readonly number[]>>;
  readonly grabError: number;
  readonly keys: boolean;
  readonly led: boolean;
  readonly held: readonly number[];
  readonly packet: readonly string[];
  readonly last: readonly string[];
}

/** Makes a device, serves it, drives it and takes it away. Returns what the driver and the program said. */
async function examine(kind: string): Promise<{ found: Found; status: string; log: string }> {
  const at = (name: string) => `/tmp/${kind}.${name}`;
  await guest.run(`mkfifo /root${at("fifo")}`);
  const make = `/extra/uinput ${kind} /root${at("fifo")} /root${at("replies")} >${at("path")} 2>&1 &`;
  await guest.run(`${make} while ! grep -q event ${at("path")}; do usleep 20000; done`);
  const path = await guest.run(`cat ${at("path")}`);
  assert.match(path, /^\/dev\/input\/event\d+$/);
  const serve = inside(`serve --evdev-path=${path} --socket-path=${at("sock")}`);
  await guest.run(`(${serve}; echo $? >${at("status")}) >${at("log")} 2>&1 &`);
  const listening = `for i in $(seq 600); do [ -e /root${at("sock")} ] && break; usleep 100000; done`;
  await guest.run(`${listening}; [ -e /root${at("sock")} ] || cat ${at("log")}`, {
    timeoutMs: 70_000,
  });
  const drive = inside(`drive ${at("sock")} ${path} ${at("fifo")} ${at("replies")}`);
  const text = await guest.run(`${drive} || cat ${at("log")}`, { timeoutMs: 70_000 });
  const ended = `while [ ! -e ${at("status")} ]; do usleep 20000; done; cat ${at("status")}`;
  const status = await guest.run(ended);
  const answer = text.split("\n").find((line) => line.startsWith("{"));
  if (answer === undefined) throw new Error(`The driver failed: ${text}`);
  const found = JSON.parse(answer) as Found;
  return { found, status, log: await guest.run(`cat ${at("log")}`) };
}

const bits = (map: readonly number[]): number[] =>
  map.flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => i * 8 + bit),
  );

step("a guest boots with the runtime on a disk", async () => {
  const uinput = buildTool("tests/guest/programs/uinput.c", { flags: ["-static"] });
  const disk = `file=${makeDisk()},format=raw,if=virtio`;
  const devices = ["-cpu", "max", "-drive", disk];
  const initrd = withPrograms(folder, { uinput });
  guest = owns("guest", await bootGuest({ folder, devices, initrd, memory: 1024 }));
  await guest.run("mkdir -p /root && mount -t ext4 /dev/vda /root");
  await guest.run("for d in dev proc sys; do mount --bind /$d /root/$d; done");
  assert.match(
    await guest.run(inside("serve --version"), { timeoutMs: 60_000 }),
    /^vhost-user-inp/,
  );
});

step("a keyboard is described, grabbed, sends, lights its LEDs and lets go", async () => {
  const { found, status, log } = await examine("keyboard");
  assert.equal(found.name, "A keyboard of uinput");
  assert.deepEqual(found.ids, [3, 0, 0x6d, 0x04, 0x1c, 0xc3, 7, 0]);
  assert.deepEqual(
    bits(found.bits[1]!),
    Array.from({ length: 120 }, (_, i) => i + 1),
  );
  assert.deepEqual([bits(found.bits[4]!), bits(found.bits[17]!)], [[4], [0, 1, 2]]);
  assert.equal(found.bits[3], undefined);
  assert.equal(found.grabError, 16, "EBUSY");
  assert.equal(found.keys, true);
  assert.equal(found.led, true);
  assert.deepEqual(found.held, [42]);
  // The kernel itself releases the keys of a device that goes.
  assert.ok(found.last.includes("1 42 0"), found.last.join("; "));
  assert.equal(status, "1");
  assert.match(log, /The input device \/dev\/input\/event\d+ is gone: no such device/);
});

step("a panel has its axes and its property, and sends packets of six", async () => {
  const { found, status } = await examine("panel");
  assert.deepEqual(bits(found.properties), [1]);
  assert.deepEqual(found.axes, {
    0: [-5, 4095, 1, 2, 31],
    1: [0, 2047, 3, 4, 30],
    47: [0, 3, 0, 0, 0],
    53: [-5, 4095, 0, 0, 31],
    54: [0, 2047, 0, 0, 30],
    57: [0, 65535, 0, 0, 0],
  });
  assert.deepEqual(found.packet, [
    "3 47 1",
    "3 57 7",
    "3 53 4000",
    "3 54 1000",
    "1 330 1",
    "0 0 0",
  ]);
  assert.equal(status, "1");
  assert.ok(found.last.includes("1 330 0"), found.last.join("; "));
});

end();
