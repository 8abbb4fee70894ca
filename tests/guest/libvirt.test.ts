/**
 * libvirt 9 starts a domain: our graphics card, which it finds through the descriptor that
 * `ringside install` writes, our disk and our network interface, which it is given by socket.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { decode } from "fast-png";
import { noRenderer } from "../gpu/virgl.ts";
import { Namespace, tapProblem } from "../net/namespace.ts";
import { runtime, startBlk, startDevice } from "./back-end.ts";
import { type Channel, openChannel } from "./channel.ts";
import { drawing, graphicalInitrd, graphicalKernel, type Screen, screenOf } from "./gpu.ts";
import { bootTimeoutMs, kernelCommandLine, type Line, listen, tail } from "./guest.ts";
import { lab, labProblem, repository } from "./lab.ts";
import { type Libvirt, libvirtProblem, startLibvirt } from "./libvirt.ts";
import { type Picture, readPixmap } from "./pnm.ts";
import { scenario } from "./scenario.ts";
import { until, within } from "./wait.ts";

const MEBIBYTES = 16;
const { folder, step, owns, end } = scenario(
  "back-ends under libvirt",
  labProblem() ?? tapProblem() ?? libvirtProblem(),
);
const path = (name: string) => join(folder, name);
const ringside = join(repository, "bin/ringside");
const launcher = "/usr/local/libexec/ringside/vhost-user-gpu";
const ours = "/etc/qemu/vhost-user/50-ringside-gpu.json";
const image = path("disk.img");
let libvirt: Libvirt;
let command: Line;
let guest: Channel;
let screen: Screen;

const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

/** An element of the domain in docs/conventions.md, with our sockets. */
function documented(element: string): string {
  const text = readFileSync(join(repository, "docs/conventions.md"), "utf8");
  const found = new RegExp(`<${element}[ >][\\s\\S]*?</${element}>`).exec(
    /```xml\n([\s\S]*?)```/.exec(text)![1]!,
  );
  return found![0].replaceAll(/'\/run\/(disk|net)\.sock'/g, (_, name) => `'${path(name)}'`);
}

function domain(name: string, devices: string, video = documented("video")): string {
  return `<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>512</memory>
  ${documented("memoryBacking")}
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>${lab.kernel}</kernel>
    <initrd>${path("initrd.cpio")}</initrd>
    <cmdline>${kernelCommandLine(graphicalKernel)}</cmdline>
  </os>
  ${documented("features")}
  <devices>
    <emulator>${libvirt.emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    ${video}
    ${devices}
  </devices>
</domain>`;
}

const bootable = () => `
    ${documented("disk")}
    ${documented("interface")}
    <serial type='file'><source path='${path("console.log")}'/></serial>
    <serial type='unix'><source mode='connect' path='${path("command")}'/></serial>`;

/** What `virsh screenshot` saves. */
function look(): Picture {
  const file = path("screen");
  libvirt.virsh("screenshot", "guest", file);
  if (readFileSync(file).subarray(0, 2).toString() === "P6") return readPixmap(file);
  const { width, height, data, channels } = decode(readFileSync(file));
  const pixels = Buffer.alloc(width * height * 4);
  for (let from = 0, to = 0; to < pixels.length; from += channels, to += 4) {
    for (const i of [0, 1, 2]) pixels[to + i] = data[from + 2 - i]!;
  }
  return { width, height, pixels };
}

/** The processes where libvirt is whose command line has this in it. */
function commandLines(part: string): string[] {
  const show = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null; echo; done";
  return libvirt
    .run("sh", "-c", show)
    .split("\n")
    .filter((line) => line.includes(part));
}

step("libvirt starts a domain with what ringside install made known", async () => {
  libvirt = owns("libvirt", await startLibvirt(path("libvirt")));
  const installed = libvirt.run(ringside, "install");
  for (const file of [launcher, ours]) assert.ok(installed.includes(`Wrote ${file}\n`), installed);
  assert.ok(!installed.includes("Note:"), installed);
  const namespace = new Namespace();
  owns("namespace", { log: () => "", stop: async () => namespace[Symbol.dispose]() });
  namespace.tap("tap0", "10.77.0.1/24", true);
  writeFileSync(image, randomBytes(MEBIBYTES * 2 ** 20));
  owns("blk", await startBlk(path("disk"), { file: image, queues: 2 }));
  const net = ["--tap=tap0", "--queue-pairs=2"];
  owns("net", await startDevice("net", path("net"), net, namespace.command()));
  graphicalInitrd(folder);
  writeFileSync(path("guest.xml"), domain("guest", bootable()));
  command = await listen(path("command"));
  owns("guest", { log: () => tail(path("console.log")), stop: async () => command.close() });
  libvirt.virsh("create", path("guest.xml"));
  const socket = await within(10_000, command.socket, "QEMU to connect");
  guest = openChannel(socket, socket);
  await guest.ready(bootTimeoutMs);
  screen = screenOf(guest, async () => look());
});

step("the graphics card is our program, connected by --fd", async () => {
  const [line = "none", ...others] = commandLines("--fd=");
  assert.deepEqual(others, []);
  assert.match(line, runtime === "deno" ? /deno run / : /bun/);
  assert.match(line, / gpu --fd=\d+ $/);
});

step("the disk's md5 is the same in the guest and on the host", async () => {
  const read = `dd if=/dev/vda bs=1M count=${MEBIBYTES} 2>/dev/null | md5sum | cut -d' ' -f1`;
  assert.equal(await guest.run(read), md5(readFileSync(image)));
  await guest.run("dd if=/dev/urandom of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null");
  const drop = "echo 3 >/proc/sys/vm/drop_caches";
  assert.equal(await guest.run(`${drop}; ${read}`), md5(readFileSync(image)));
  assert.equal(await guest.run("ls /sys/block/vda/mq | wc -l"), "2");
});

step("ping is answered", async () => {
  await guest.run("ip link set eth0 up && ip address add 10.77.0.2/24 dev eth0");
  await guest.run("ping -c 3 -i 0.2 -W 2 10.77.0.1");
  assert.equal(await guest.run("cat /sys/class/net/eth0/address"), "52:54:00:12:34:56");
});

step("virsh screenshot shows what the guest drew", async () => {
  await screen.loadDriver();
  await screen.draw(0);
  await screen.shows(drawing(0));
  await screen.draw(1);
  await screen.shows(drawing(1));
});

step("the program ends with the domain", async () => {
  libvirt.virsh("destroy", "guest");
  await until(5_000, () => (commandLines("--fd=").length === 0 ? true : null), "its end");
});

/** Starts a domain as far as QEMU's devices and ends it. Returns the calls of the other program. */
function tryOut(): string[] {
  const record = path("calls");
  writeFileSync(record, "");
  writeFileSync(path("choice.xml"), domain("choice", ""));
  libvirt.virsh("create", "--paused", path("choice.xml"));
  libvirt.virsh("destroy", "choice");
  return readFileSync(record, "utf8").trim().split("\n");
}

const check = () => libvirt.run(ringside, "install", "--check");

/** Another card's descriptor, like QEMU's. Its program notes how it is called; then it is ours. */
function installOther(file: string): void {
  const binary = "/usr/local/libexec/vhost-user-gpu";
  const text = `#!/bin/sh\necho "$*" >>'${path("calls")}'\nexec ${launcher} "$@"\n`;
  libvirt.write(binary, text, 0o755);
  libvirt.write(file, JSON.stringify({ description: "QEMU vhost-user-gpu", type: "gpu", binary }));
}

step("QEMU's own card wins by its file's name, and loses by another one", async () => {
  installOther("/usr/share/qemu/vhost-user/50-qemu-gpu.json");
  const [asked, started] = tryOut();
  assert.equal(asked, "--print-capabilities");
  assert.match(started!, /^--fd=\d+$/);
  assert.match(check(), /50-qemu-gpu\.json: gpu: chosen first/);
  libvirt.run("rm", "/usr/share/qemu/vhost-user/50-qemu-gpu.json");
  installOther("/usr/share/qemu/vhost-user/60-qemu-gpu.json");
  assert.deepEqual(tryOut(), [""]);
  assert.match(check(), /50-ringside-gpu\.json: gpu: chosen first/);
});

step("an empty file of its name hides QEMU's, and a broken one stops libvirt", async () => {
  installOther("/usr/share/qemu/vhost-user/50-qemu-gpu.json");
  libvirt.write("/etc/qemu/vhost-user/50-qemu-gpu.json", "");
  assert.deepEqual(tryOut(), [""]);
  assert.match(check(), /50-ringside-gpu\.json: gpu: chosen first/);
  const twice = '{"type":"net","binary":"/bin/sh","tags":[],"tags":[]}';
  for (const text of ["{", '{"type":"toaster","binary":"/bin/sh"}', twice]) {
    libvirt.write("/etc/qemu/vhost-user/90-broken.json", text);
    assert.throws(tryOut, /virsh .*create .* failed: error: Failed to create domain/);
    assert.throws(check, /libvirt finds no vhost-user back-end at all .*90-broken\.json/);
  }
  // Not what vhost-user.json asks for, but nothing that libvirt minds.
  libvirt.write("/etc/qemu/vhost-user/90-broken.json", '{"type":"gpu"}');
  libvirt.write("/etc/qemu/vhost-user/10-broken.json", '{"type":"gpu","binary":"/bin/false"}');
  assert.deepEqual(tryOut(), [""]);
  assert.match(check(), /50-ringside-gpu\.json: gpu: chosen first/);
});

const needs3d = { skip: noRenderer };

step(
  "a domain that wants 3D gets ours, and not one that comes first without it",
  async () => {
    libvirt.run("sh", "-c", "rm /etc/qemu/vhost-user/*-broken.json");
    const flat = "/usr/local/libexec/flat-gpu";
    const answer = '{"type":"gpu","features":[]}';
    libvirt.write(flat, `#!/bin/sh\necho '${answer}'\n`, 0o755);
    const first = "/etc/qemu/vhost-user/10-flat-gpu.json";
    libvirt.write(first, JSON.stringify({ description: "2D", type: "gpu", binary: flat }));
    const plain = documented("video");
    const video = plain.replace(/(<model [^>]*)\/>/, "$1><acceleration accel3d='yes'/></model>");
    assert.notEqual(video, plain);
    writeFileSync(path("choice.xml"), domain("choice", "", video));
    libvirt.virsh("create", "--paused", path("choice.xml"));
    const [line = "none"] = commandLines("--fd=");
    assert.match(line, / gpu --fd=\d+ --virgl $/);
    libvirt.virsh("destroy", "choice");
    libvirt.run("rm", first);
  },
  needs3d,
);

step("--priority puts ours first, --compile starts it alone, uninstall takes it away", async () => {
  libvirt.run(
    "sh",
    "-c",
    "rm -f /etc/qemu/vhost-user/*-broken.json /etc/qemu/vhost-user/50-qemu-*",
  );
  assert.match(libvirt.run(ringside, "install", "gpu"), /Note: .* prefers 50-qemu-gpu\.json/);
  const first = libvirt.run(ringside, "install", "gpu", "--compile", "--priority=40");
  assert.doesNotMatch(first, /Note:/);
  assert.match(first, /Removed \S+50-ringside-gpu\.json/);
  writeFileSync(path("choice.xml"), domain("choice", ""));
  libvirt.virsh("create", "--paused", path("choice.xml"));
  assert.match(commandLines("--fd=")[0]!, /^\S+ringside\/devices\.bin gpu --fd=\d+ $/);
  libvirt.virsh("destroy", "choice");
  assert.match(libvirt.run(ringside, "uninstall"), /Removed \S+40-ringside-gpu\.json/);
  // The other card's program was ours in the end.
  assert.throws(tryOut, /Unable to find a satisfying vhost-user-gpu/);
  assert.match(check(), /gpu: libvirt finds none whose program answers/);
});

end();
