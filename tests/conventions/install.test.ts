/** `ringside install`: launchers and descriptors, and what libvirt would make of them. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { describe, it } from "node:test";
import { Check } from "typebox/schema";
import { descriptorSchema } from "../../conventions/descriptor.ts";
import { discover, searchPath } from "../../conventions/discovery.ts";
import { Folder } from "../support/folder.ts";
import { Program } from "./program.ts";
import { launch, run } from "./run.ts";
import { connectAndAsk } from "./talk.ts";

const device = (type: string) => `import { defineDevice, layout, Type } from "@ringside/vhost";
export default defineDevice({
  type: ${JSON.stringify(type)},
  name: "mine",
  id: 4,
  summary: "A device's own summary",
  options: Type.Object({}),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  open: () => ({ config: {}, device: {} }),
});
`;

function install(folder: Folder, ...args: string[]) {
  const env = { XDG_CONFIG_HOME: folder.at("config") };
  return launch("ringside", ["install", ...args, `--prefix=${folder.path}`], {
    cwd: folder.path,
    env,
  });
}

const launcher = (folder: Folder, name: string) => folder.at("libexec/ringside", name);
const descriptors = (folder: Folder) => folder.at("share/qemu/vhost-user");

describe("ringside install", () => {
  it("makes every device known, under one path each", () => {
    using folder = new Folder();
    const { status, stdout, stderr } = install(folder);
    assert.deepEqual([status, stderr], [0, ""]);
    const devices = ["blk", "gpu", "input", "net", "rng"];
    const names = devices.map((device) => `50-ringside-${device}.json`);
    assert.deepEqual(readdirSync(descriptors(folder)).sort(), names);
    for (const name of names) {
      const text = readFileSync(`${descriptors(folder)}/${name}`, "utf8");
      assert.equal(Check(descriptorSchema, JSON.parse(text)), true);
      assert.ok(stdout.includes(name));
    }
    const { chosen, found } = discover(searchPath({ prefix: folder.path, privileged: true }));
    assert.deepEqual([...chosen.keys()].sort(), ["block", "gpu", "input", "net", "rng"]);
    assert.deepEqual(
      found.flatMap(({ warnings }) => warnings),
      [],
    );
    assert.equal(chosen.get("block")!.binary, launcher(folder, "vhost-user-blk"));
  });

  it("writes launchers that work with hardly any environment", () => {
    using folder = new Folder();
    install(folder, "rng");
    const path = launcher(folder, "vhost-user-rng");
    assert.equal(statSync(path).mode & 0o777, 0o755);
    const bare = ["-i", "PATH=/usr/bin:/bin", path, "--print-capabilities"];
    const { status, stdout } = run("env", bare, { cwd: "/" });
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), { type: "rng", features: [] });
    assert.deepEqual(readdirSync(descriptors(folder)), ["50-ringside-rng.json"]);
  });

  it("does the same for a device file, with its path made absolute", async () => {
    using folder = new Folder();
    folder.write("it's mine/my-device.ts", device("console"));
    const { status, stderr } = install(folder, "./it's mine/my-device.ts");
    assert.deepEqual([status, stderr], [0, ""]);
    const { chosen } = discover([descriptors(folder)]);
    assert.equal(chosen.get("console")!.binary, launcher(folder, "vhost-user-mine"));
    const args = [`--socket-path=${folder.at("s")}`];
    using program = new Program(launcher(folder, "vhost-user-mine"), args);
    (await connectAndAsk(folder.at("s"))).close();
    assert.equal((await program.stop()).code, 0);
  });

  it("writes no descriptor for a type that would end libvirt's search", () => {
    using folder = new Folder();
    folder.write("my-device.ts", device("toaster"));
    const { status, stdout } = install(folder, "./my-device.ts");
    assert.equal(status, 0);
    assert.match(stdout, /no descriptor: "toaster" is no type of vhost-user\.json/);
    assert.ok(existsSync(launcher(folder, "vhost-user-mine")));
    assert.equal(existsSync(descriptors(folder)), false);
  });

  it("replaces what it wrote before, and leaves nothing else behind", () => {
    using folder = new Folder();
    install(folder, "rng");
    folder.write("libexec/ringside/vhost-user-rng", "old", 0o600);
    install(folder, "rng");
    const names = ["installed.json", "vhost-user-rng"];
    assert.deepEqual(readdirSync(folder.at("libexec/ringside")).sort(), names);
    assert.match(readFileSync(launcher(folder, "vhost-user-rng"), "utf8"), /^#!\/bin\/sh\n/);
    assert.equal(statSync(launcher(folder, "vhost-user-rng")).mode & 0o777, 0o755);
  });

  it("says when libvirt does not look there", () => {
    using folder = new Folder();
    assert.match(install(folder, "rng").stdout, /libvirt does not look into .*share\/qemu/);
  });

  it("ends with one line for a wrong device or option", () => {
    using folder = new Folder();
    const wrong = install(folder, "floppy");
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /^ringside: Unknown device "floppy"[^\n]*\n$/);
    assert.match(install(folder, "--perfix=/x").stderr, /did you mean --prefix\?/);
    folder.write("my-device.ts", device("console").replace('"mine"', '"../../evil"'));
    const outside = install(folder, "./my-device.ts");
    assert.equal(outside.status, 1);
    assert.match(outside.stderr, /Cannot install a device called "\.\.\/\.\.\/evil"/);
    folder.write("file", "");
    const target = `--prefix=${folder.at("file")}`;
    const blocked = launch("ringside", ["install", "rng", target]);
    assert.equal(blocked.status, 1);
    assert.match(blocked.stderr, /^ringside: [^\n]*file[^\n]*\n$/);
  });
});

describe("ringside install --check", () => {
  const check = (folder: Folder) => install(folder, "--check");

  it("says which descriptor wins for each type", () => {
    using folder = new Folder();
    install(folder);
    const other = JSON.stringify({ description: "x", type: "block", binary: "/bin/sh" });
    folder.write("etc/qemu/vhost-user/10-other.json", other);
    const { status, stdout } = check(folder);
    assert.equal(status, 0);
    assert.match(stdout, /10-other\.json: block: chosen first/);
    assert.match(stdout, /50-ringside-blk\.json: block: after 10-other\.json/);
    assert.match(stdout, /50-ringside-rng\.json: rng: chosen first/);
    assert.match(stdout, /No errors/);
  });

  it("fails for a file that ends libvirt's search, and names it", () => {
    using folder = new Folder();
    install(folder, "rng");
    const bad = folder.write("etc/qemu/vhost-user/50-bad.json", '{"type":"toaster"}');
    const { status, stdout, stderr } = check(folder);
    assert.equal(status, 1);
    assert.match(stdout, /50-bad\.json: error: its type "toaster" is unknown/);
    assert.match(stderr, /^ringside: libvirt finds no vhost-user back-end at all because of /);
    assert.ok(stderr.includes(bad));
  });

  it("warns of a binary that is gone", () => {
    using folder = new Folder();
    const gone = JSON.stringify({ description: "x", type: "gpu", binary: "/nonexistent/gpu" });
    folder.write("share/qemu/vhost-user/50-gpu.json", gone);
    const { status, stdout } = check(folder);
    assert.equal(status, 0);
    assert.match(stdout, /warning: its binary cannot be run: \/nonexistent\/gpu/);
  });

  it("takes the first graphics card whose program answers, as libvirt does", () => {
    using folder = new Folder();
    install(folder, "gpu");
    const program = (text: string, name: string) => {
      const binary = folder.write(name, `#!/bin/sh\n${text}\n`, 0o755);
      return JSON.stringify({ description: "x", type: "gpu", binary });
    };
    const others = {
      "10-a.json": program("echo no render node >&2; exit 1", "a"),
      "20-b.json": program("echo Options:", "b"),
      "30-c.json": program(`echo '{"type":"gpu"}'`, "c"),
      "40-d.json": '{"description":"x","type":"gpu"}',
      "60-e.json": program("exit 1", "e"),
    };
    for (const [name, text] of Object.entries(others)) {
      folder.write(`share/qemu/vhost-user/${name}`, text);
    }
    const { status, stdout } = check(folder);
    assert.equal(status, 0);
    assert.match(stdout, /10-a\.json: gpu: passed over: no render node\n/);
    assert.match(stdout, /20-b\.json: gpu: passed over: its capabilities are no JSON/);
    assert.match(stdout, /30-c\.json: gpu: passed over: its capabilities have no "features"/);
    assert.match(stdout, /40-d\.json: gpu: passed over: it names no program/);
    assert.match(stdout, /50-ringside-gpu\.json: gpu: chosen first/);
    assert.match(stdout, /60-e\.json: gpu: after 50-ringside-gpu\.json/);
    const why =
      /\ngpu: libvirt starts \S+vhost-user-gpu: 50-ringside-gpu\.json is the first by name whose/;
    assert.match(stdout, why);
    folder.write("share/qemu/vhost-user/50-ringside-gpu.json", "");
    assert.match(check(folder).stdout, /\ngpu: libvirt finds none whose program answers/);
  });

  it("warns of a card that needs a render node where there is none", () => {
    using folder = new Folder();
    const answer = JSON.stringify({ type: "gpu", features: ["render-node"] });
    const binary = folder.write("card", `#!/bin/sh\necho '${answer}'\n`, 0o755);
    const descriptor = JSON.stringify({ description: "x", type: "gpu", binary });
    folder.write("share/qemu/vhost-user/50-card.json", descriptor);
    const { status, stdout } = check(folder);
    assert.equal(status, 0);
    const there = existsSync("/dev/dri") && readdirSync("/dev/dri").some((n) => /^renderD/.test(n));
    const warned = /warning: libvirt starts no domain with it: .* no render node/.test(stdout);
    assert.equal(warned, !there);
  });

  it("says what a later folder hides, and which types libvirt starts", () => {
    using folder = new Folder();
    install(folder, "rng");
    folder.write(
      "share/qemu/vhost-user/50-fs.json",
      '{"description":"x","type":"fs","binary":"/bin/sh"}',
    );
    const mask = folder.write("etc/qemu/vhost-user/50-ringside-rng.json", "");
    const { stdout } = check(folder);
    assert.ok(stdout.includes(`share/qemu/vhost-user/50-ringside-rng.json: hidden by ${mask}\n`));
    assert.match(stdout, /\nfs: libvirt starts \/bin\/sh: 50-fs\.json is first by name\n/);
    install(folder, "net");
    assert.match(check(folder).stdout, /\nnet: libvirt starts no program of this type/);
  });

  it("is content with nothing, and installs nothing", () => {
    using folder = new Folder();
    const { status, stdout } = check(folder);
    assert.equal(status, 0);
    assert.match(stdout, /No descriptor is installed/);
    assert.equal(existsSync(folder.at("libexec")), false);
    assert.equal(install(folder, "--check", "rng").status, 2);
  });
});
