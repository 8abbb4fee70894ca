/** `ringside install --compile`: programs that need neither the package nor a runtime beside them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join, relative } from "node:path";
import { after, before, describe, it } from "node:test";
import { workerModules } from "../../core/worker-modules.ts";
import { Frontend, SimpleQueue } from "../../frontend/mod.ts";
import { read } from "../architecture/sources.ts";
import { noRenderer } from "../gpu/virgl.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { compilerMissing } from "../tools/build.ts";
import { runVublk } from "../tools/vublk.ts";
import { Program } from "./program.ts";
import { launch, run } from "./run.ts";

/** Answers through promises, so that the loop is woken by a Worker. */
const lateDevice = `import { defineDevice, later, layout, Type } from "@ringside/vhost";
const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
export default defineDevice({
  type: "rng",
  name: "sevens",
  id: 4,
  summary: "Sevens, in a while",
  async: true,
  options: Type.Object({ byte: Type.Integer({ default: 7 }) }),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  open: ({ byte }, host) => ({ config: {}, device: {
    handle(chain) {
      const held = chain.hold();
      const bytes = new Uint8Array(held.writableBytes).fill(byte);
      return later(held, pause().then(() => held.write(bytes)), host.log);
    },
  } }),
});
`;

const namespaces = spawnSync("unshare", ["-m", "true"], { stdio: "ignore" }).status === 0;

/** Runs a command where this package and its node_modules are not, if this machine lets us. */
function alone(...command: string[]): [string, string[]] {
  if (!namespaces) return [command[0]!, command.slice(1)];
  const modules = realpathSync(join(root, "node_modules"));
  const hidden = relative(root, modules).startsWith("..") ? [root, modules] : [root];
  const hide = hidden.map((folder) => `mount -t tmpfs none '${folder}'`).join(" && ");
  return ["unshare", ["-m", "sh", "-c", `${hide} && cd / && exec "$0" "$@"`, ...command]];
}

describe("ringside install --compile", () => {
  let folder: Folder;
  const launcher = (name: string) => folder.at("libexec/ringside", `vhost-user-${name}`);
  const install = (...args: string[]) =>
    launch("ringside", ["install", ...args, `--prefix=${folder.path}`], { cwd: folder.path });

  before(() => {
    folder = new Folder();
    folder.write("late.ts", lateDevice);
    const { status, stderr } = install("--compile", "blk", "rng", "./late.ts");
    assert.deepEqual([status, stderr], [0, ""]);
  });
  after(() => folder[Symbol.dispose]());

  it("writes one program for the devices that come with Ringside, and one for each other", () => {
    assert.deepEqual(readdirSync(folder.at("libexec/ringside")).sort(), [
      "devices.bin",
      "installed.json",
      "vhost-user-blk",
      "vhost-user-rng",
      "vhost-user-sevens",
      "vhost-user-sevens.bin",
    ]);
    assert.ok(!readFileSync(launcher("blk"), "utf8").includes(root));
  });

  it("makes programs that tell the same without the package", () => {
    for (const [args, from] of [
      [["--print-capabilities"], "vhost-user-blk"],
      [["--version"], "vhost-user-blk"],
      [["--help"], "vhost-user-blk"],
    ] as const) {
      const [command, words] = alone("env", "-i", "PATH=/usr/bin:/bin", launcher("blk"), ...args);
      const { status, stdout, stderr } = run(command, words);
      assert.deepEqual([status, stderr], [0, ""]);
      assert.equal(stdout, launch(from, args).stdout);
    }
  });

  it("makes a program that starts itself to try what the host can do", { skip: noRenderer }, () => {
    const devices = folder.at("libexec/ringside/devices.bin");
    const [command, words] = alone(devices, "gpu", "--print-capabilities");
    const { stdout } = run(command, words);
    assert.ok(JSON.parse(stdout).features.includes("virgl"), stdout);
    assert.equal(stdout, launch("vhost-user-gpu", ["--print-capabilities"]).stdout);
  });

  it("makes a program that serves a disk", { skip: compilerMissing() ?? false }, async () => {
    const socket = folder.at("disk");
    const args = [`--socket-path=${socket}`, `--blk-file=${folder.image(2 ** 24)}`];
    const [command, words] = alone(launcher("blk"), ...args);
    using program = await new Program(command, words).listens(socket);
    const load = ["-w", "mixed", "-V", "-q", "2", "-d", "32", "-t", "0.3"];
    const { done, failed, bad_data } = await runVublk(socket, load);
    assert.ok(done > 0);
    assert.deepEqual([failed, bad_data], [0, 0]);
    assert.deepEqual(await program.stop(), { code: 0, signal: null });
    assert.doesNotMatch(program.stderr, /error|warn/i);
  });

  it("makes a program of a device file, which answers later", async () => {
    const socket = folder.at("sevens");
    const [command, words] = alone(launcher("sevens"), `--socket-path=${socket}`, "--byte=9");
    using program = await new Program(command, words).listens(socket);
    {
      using frontend = Frontend.open(socket);
      const queue = new SimpleQueue(frontend);
      frontend.start();
      assert.deepEqual([...queue.exchange(new Uint8Array(0), 5, 2)], [9, 9, 9, 9, 9]);
    }
    assert.equal((await program.stop()).code, 0);
  });

  it("has the modules of all Workers", () => {
    const sources = ["core/pump.ts", "core/postcopy-watch.ts"].map(read).join("\n");
    const loaded = [...sources.matchAll(/moduleUrl\("([^"]+)"\)/g)].map(([, name]) => name);
    assert.deepEqual(loaded.sort(), [...workerModules].sort());
  });

  it("goes back to scripts when installed without it", () => {
    const { status, stdout } = install("./late.ts");
    assert.equal(status, 0);
    assert.match(stdout, /Removed \S+vhost-user-sevens\.bin\n/);
    assert.ok(readFileSync(launcher("sevens"), "utf8").includes(root));
  });

  it("says what cannot be compiled", () => {
    folder.write("broken.ts", lateDevice.replace('"@ringside/vhost"', '"./gone.ts"'));
    const { status, stderr } = install("--compile", "./broken.ts");
    assert.equal(status, 1);
    assert.match(stderr, /^ringside: Cannot load "\.\/broken\.ts"[^\n]*\n$/);
    assert.match(install("--compile", "--runtime=deno").stderr, /only Bun makes such programs/);
    assert.equal(existsSync(folder.at("libexec/ringside/vhost-user-broken")), false);
  });
});

describe("ringside install --runtime", () => {
  it("makes launchers that prefer that runtime", () => {
    for (const name of ["bun", "deno"]) {
      using folder = new Folder();
      launch("ringside", ["install", "rng", `--runtime=${name}`, `--prefix=${folder.path}`]);
      const text = readFileSync(folder.at("libexec/ringside/vhost-user-rng"), "utf8");
      assert.match(text, new RegExp(`^runtime='.*${name}[^/]*'$`, "m"));
    }
  });
});
