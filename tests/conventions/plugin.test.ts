/** Devices in files of their own, in folders that know nothing of Ringside, without a network. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { Frontend, SimpleQueue } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { Program } from "./program.ts";
import { launch, type Outcome, run } from "./run.ts";

const namespaces = spawnSync("unshare", ["-n", "true"], { stdio: "ignore" }).status === 0;
const needsNamespaces = namespaces ? false : "no right to leave the network (unshare -n)";

const device = `import { defineDevice, layout, Type } from "@ringside/vhost";

export default defineDevice({
  type: "fill",
  id: 4,
  summary: "Fills every buffer with one byte",
  options: Type.Object({ byte: Type.Integer({ minimum: 0, maximum: 255, default: 7 }) }),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  open: ({ byte }) => ({
    config: {},
    device: { handle: (chain) => chain.write(new Uint8Array(chain.writableBytes).fill(byte)) },
  }),
});
`;

function ringside(folder: Folder, ...args: string[]): Outcome {
  return run(join(root, "bin", "ringside"), args, { cwd: folder.path });
}

describe("a device file", () => {
  it("is a program with options, help and capabilities", () => {
    using folder = new Folder();
    folder.write("my-device.ts", device);
    assert.equal(device.trim().split("\n").length <= 15, true);
    const help = ringside(folder, "./my-device.ts", "--help");
    assert.deepEqual([help.status, help.stderr], [0, ""]);
    assert.match(help.stdout, /^Usage: vhost-user-fill .*\n.*--byte=N +\(0 to 255; default 7\)/s);
    const capabilities = ringside(folder, "./my-device.ts", "--print-capabilities");
    assert.deepEqual(JSON.parse(capabilities.stdout), { type: "fill", features: [] });
  });

  it("is served without node_modules and a network", { skip: needsNamespaces }, async () => {
    using folder = new Folder();
    folder.write("my-device.ts", device);
    const socket = `--socket-path=${folder.at("s")}`;
    const args = [folder.at("my-device.ts"), "--byte=9", socket];
    using program = new Program("unshare", ["-n", join(root, "bin", "ringside"), ...args]);
    await program.listens(folder.at("s"));
    {
      using frontend = Frontend.open(folder.at("s"));
      const queue = new SimpleQueue(frontend);
      frontend.start();
      assert.deepEqual([...queue.exchange(new Uint8Array(0), 5, 2)], [9, 9, 9, 9, 9]);
    }
    assert.deepEqual(await program.stop(), { code: 0, signal: null });
  });

  it("is named by a path, an absolute path or a URL", () => {
    using folder = new Folder();
    const path = folder.write("deep/er/my device.ts", device);
    for (const name of ["deep/er/my device.ts", path, pathToFileURL(path).href]) {
      assert.match(ringside(folder, name, "--version").stdout, /^vhost-user-fill /, name);
    }
  });

  it("gets this copy of Ringside even where another one is installed", () => {
    using folder = new Folder();
    const other = "node_modules/@ringside/vhost";
    folder.write(
      `${other}/package.json`,
      '{"name":"@ringside/vhost","type":"module","main":"a.js"}',
    );
    folder.write(`${other}/a.js`, 'throw new Error("the wrong copy");');
    folder.write("my-device.ts", device);
    assert.match(ringside(folder, "./my-device.ts", "--version").stdout, /^vhost-user-fill /);
  });

  it("shares classes and devices with the framework", () => {
    using folder = new Folder();
    const inside = (name: string) => JSON.stringify(pathToFileURL(join(root, name)).href);
    folder.write(
      "same.ts",
      `import { ProtocolError } from "@ringside/vhost";
       import { blk } from "@ringside/vhost/devices/blk";
       const errors = await import(${inside("core/errors.ts")});
       const devices = await import(${inside("devices/blk/mod.ts")});
       console.log(errors.ProtocolError === ProtocolError, devices.blk === blk);
       export default blk;`,
    );
    assert.match(ringside(folder, "./same.ts", "--version").stdout, /^true true\n/);
  });

  it("may be a package that is installed where ringside is called", () => {
    using folder = new Folder();
    const exports = { ".": { import: "./device.js" } };
    const manifest = { name: "some-device", type: "module", exports };
    folder.write("node_modules/some-device/package.json", JSON.stringify(manifest));
    folder.write("node_modules/some-device/device.js", device);
    assert.match(ringside(folder, "some-device", "--version").stdout, /^vhost-user-fill /);
  });

  it("may import other files and packages of its own", () => {
    using folder = new Folder();
    folder.write("package.json", '{"dependencies":{"seven":"1.0.0"}}');
    folder.write(
      "node_modules/seven/package.json",
      '{"name":"seven","type":"module","main":"a.js"}',
    );
    folder.write("node_modules/seven/a.js", "export const seven = 7;");
    folder.write("summary.ts", 'export const summary: string = "Own file";');
    const imports = 'import { seven } from "seven";\nimport { summary } from "./summary.ts";\n';
    const text = imports + device.replace("default: 7", "default: seven");
    folder.write(
      "my-device.ts",
      text.replace('summary: "Fills every buffer with one byte"', "summary"),
    );
    const { stdout, stderr } = ringside(folder, "./my-device.ts", "--help");
    assert.equal(stderr, "");
    assert.match(stdout, /Own file.*default 7/s);
  });
});

describe("a file that is no device", () => {
  const cases: [string, string, RegExp][] = [
    ["has no default export", "export const a = 1;", /it has no default export/],
    ["exports something else", "export default 5;", /its default export is not a device/],
    ["lacks a part", "export default { type: 'x', id: 4 };", /is not a device: no summary/],
    ["does not parse", "export default = ;", /Cannot load/],
    ["throws", 'throw new Error("no luck\\ntoday");', /Cannot load .*: no luck today$/],
    ["imports what is not there", 'import "nonesuch-package";', /Cannot load .*nonesuch-package/],
    [
      "imports a name that is not there",
      'import { nope } from "@ringside/vhost"; export default nope;',
      /Cannot load .*nope/,
    ],
  ];
  for (const [name, text, message] of cases) {
    it(`ends with one line when it ${name}`, () => {
      using folder = new Folder();
      folder.write("x.ts", text);
      const { status, stderr } = ringside(folder, "./x.ts", "--help");
      assert.equal(status, 1);
      assert.match(stderr, /^ringside: [^\n]+\n$/);
      assert.match(stderr.trim(), message);
    });
  }

  it("ends with one line when it is not there", () => {
    const { status, stderr } = launch("ringside", ["./nonesuch.ts"]);
    assert.equal(status, 2);
    assert.equal(stderr, 'ringside: Cannot load "./nonesuch.ts": there is no such file\n');
  });
});
