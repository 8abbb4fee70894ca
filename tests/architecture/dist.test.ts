/** The built package: what is in it, and that it runs from node_modules under this runtime. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { until } from "../guest/wait.ts";
import { Program } from "../tools/process.ts";
import { type Installed, installPackage } from "./installed.ts";
import { read, root } from "./sources.ts";

let installed: Installed;
let bundled: string[] = [];

before(() => {
  installed = installPackage();
  bundled = readdirSync(join(installed.package, "dist"), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".js"));
});
after(() => installed?.[Symbol.dispose]());

/** Runs a program of the package, or of the repository, under this test's runtime. */
function run(folder: string, program: string, ...args: string[]): string {
  const env = { ...process.env, RINGSIDE_RUNTIME: runtime.name };
  return execFileSync(join(folder, "bin", program), args, { env, encoding: "utf8" });
}

/** Runs a module of the project that has the package installed. */
function evaluate(source: string): unknown {
  const file = join(installed.project, "script.mjs");
  writeFileSync(file, source);
  const command = runtime.name === "deno" ? ["run", "-A", "--cached-only"] : ["--no-install"];
  const output = execFileSync(process.execPath, [...command, file], {
    cwd: installed.project,
    encoding: "utf8",
  });
  return JSON.parse(output);
}

function start(program: string, args: string[], socket: string): Promise<Program> {
  const env = { RINGSIDE_RUNTIME: runtime.name };
  return new Program(join(installed.package, "bin", program), args, { socket, env }).ready();
}

const lateDevice = `
  import { defineDevice, later, layout, Type } from "@ringside/vhost";
  const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
  export default defineDevice({
    type: "rng", id: 4, summary: "Sevens, in a while", async: true,
    options: Type.Object({}), features: {}, config: layout(Type.Object({})),
    queues: [{ name: "request" }],
    open: (_options, host) => ({ config: {}, device: {
      handle(chain) {
        const held = chain.hold();
        const sevens = new Uint8Array(held.writableBytes).fill(7);
        return later(held, pause().then(() => held.write(sevens)), host.log);
      },
    } }),
  });`;

describe("the bundle", () => {
  it("imports bun:ffi dynamically and nowhere else, so that Deno can load every file", () => {
    const naming = bundled.filter((file) => {
      const text = readFileSync(join(installed.package, "dist", file), "utf8");
      assert.doesNotMatch(text, /(^|[\s;}])(import|from)\s*["']bun:/m, file);
      return text.includes("bun:");
    });
    assert.equal(naming.length, 1, naming.join(" "));
  });

  it("has a file for every export, for the program and for each Worker", () => {
    const workers = [...read("core/pump.ts").matchAll(/moduleUrl\("([^"]+)"\)/g)].map(
      ([, name]) => `${name}.js`,
    );
    assert.equal(workers.length, 1);
    const manifest = JSON.parse(read("package.json"));
    const exported = Object.values(manifest.exports as Record<string, { default?: string }>)
      .flatMap((target) => target.default ?? [])
      .map((path) => path.replace("./dist/", ""));
    for (const file of ["cli.js", ...workers, ...exported]) {
      assert.ok(bundled.includes(file), `dist/${file} is missing`);
    }
  });

  it("contains no copy of a module twice: there is one libc", () => {
    const opening = bundled.filter((file) =>
      readFileSync(join(installed.package, "dist", file), "utf8").includes("__errno_location: "),
    );
    assert.equal(opening.length, 1, opening.join(" "));
  });
});

describe("the installed package", () => {
  it("packs programs, bundle and documents, and no sources or tests", () => {
    const output = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
      cwd: installed.package,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [{ files }] = JSON.parse(output);
    const paths: string[] = files.map(({ path }: { path: string }) => path);
    for (const path of ["LICENSE", "README.md", "bin/ringside", "dist/mod.js", "dist/cli.js"]) {
      assert.ok(paths.includes(path), `${path} is not packed`);
    }
    const odd = paths.filter(
      (path) => !/^(bin|dist|docs)\/|^[A-Z]+(\.md)?$|^package\.json$/.test(path),
    );
    assert.deepEqual(odd, []);
  });

  it("offers every export", () => {
    const names = evaluate(`
      const vhost = await import("@ringside/vhost");
      const blk = await import("@ringside/vhost/devices/blk");
      const rng = await import("@ringside/vhost/devices/rng");
      const ffi = await import("@ringside/vhost/ffi");
      const frontend = await import("@ringside/vhost/frontend");
      console.log(JSON.stringify([
        typeof vhost.defineDevice, typeof vhost.serve, blk.default.type, rng.default.type,
        ffi.runtime.name, Object.keys(frontend).length > 0,
        ffi.SystemError === vhost.SystemError,
      ]));`);
    assert.deepEqual(names, ["function", "function", "block", "rng", runtime.name, true, true]);
  });

  it("prints the capabilities that the sources print", () => {
    for (const device of ["blk", "gpu", "input", "net", "rng"]) {
      const program = `vhost-user-${device}`;
      const fromSources = run(root, program, "--print-capabilities");
      assert.equal(run(installed.package, program, "--print-capabilities"), fromSources);
      assert.equal(typeof JSON.parse(fromSources).type, "string");
    }
  });

  it("tells its version and its options", () => {
    const { version } = JSON.parse(read("package.json"));
    assert.equal(run(installed.package, "ringside", "--version"), `ringside ${version}\n`);
    assert.match(run(installed.package, "vhost-user-blk", "--help"), /--blk-file=FILE/);
  });

  it("serves a disk, driven by its own front-end", async () => {
    const socket = join(installed.project, "disk.sock");
    const args = [`--socket-path=${socket}`, "--blk-file=ram:16M", "--num-queues=2"];
    const program = await start("vhost-user-blk", args, socket);
    const result = evaluate(`
      import { BlkDriver, Journal, runWorkload } from "@ringside/vhost/frontend";
      const driver = BlkDriver.connect(${JSON.stringify(socket)}, { queues: 2 });
      const journal = new Journal(4096, 4096);
      runWorkload(driver, { operation: "write", order: "sequential", journal });
      driver.flush();
      const { requests, failed, wrong, oddLengths } = runWorkload(driver, {
        operation: "read", order: "sequential", journal });
      console.log(JSON.stringify({ requests, failed, wrong, oddLengths }));`);
    assert.deepEqual(result, { requests: 4096, failed: 0, wrong: 0, oddLengths: 0 });
    assert.deepEqual(await program.stop(), { code: 0, signal: null }, program.stderr);
  });

  it("serves a device module that answers from promises, with the help of its Worker", async () => {
    const socket = join(installed.project, "late.sock");
    writeFileSync(join(installed.project, "late.mjs"), lateDevice);
    const args = [join(installed.project, "late.mjs"), `--socket-path=${socket}`];
    const program = await start("ringside", args, socket);
    const result = evaluate(`
      import { RngDriver } from "@ringside/vhost/frontend";
      const driver = RngDriver.connect(${JSON.stringify(socket)});
      console.log(JSON.stringify([1, 2, 3].map((n) => [...driver.read(n)])));`);
    assert.deepEqual(result, [[7], [7, 7], [7, 7, 7]]);
    assert.deepEqual(await program.stop(), { code: 0, signal: null }, program.stderr);
  });

  it("makes a program of one file of a device module, Worker included", async () => {
    const socket = join(installed.project, "one-file.sock");
    const prefix = join(installed.project, "one-file");
    const module = join(installed.project, "one-file.mjs");
    writeFileSync(module, lateDevice.replace("export default defineDevice({", "$& name: 'late',"));
    run(installed.package, "ringside", "install", "--compile", module, `--prefix=${prefix}`);
    const launcher = join(prefix, "libexec/ringside/vhost-user-late");
    const program = await new Program(launcher, [`--socket-path=${socket}`], { socket }).ready();
    const result = evaluate(`
      import { RngDriver } from "@ringside/vhost/frontend";
      const driver = RngDriver.connect(${JSON.stringify(socket)});
      console.log(JSON.stringify([1, 2, 3].map((n) => [...driver.read(n)])));`);
    assert.deepEqual(result, [[7], [7, 7], [7, 7, 7]]);
    assert.deepEqual(await program.stop(), { code: 0, signal: null }, program.stderr);
  });

  it("shows a screen in browsers", async () => {
    const socket = join(installed.project, "gpu.sock");
    const program = await start("vhost-user-gpu", [`--socket-path=${socket}`, "--web=0"], socket);
    // The socket is there before what was said of the page has come through the pipe.
    const said = () => /http:\/\/\S+(?=.*\n)/.exec(program.stderr)?.[0];
    const url = await until(10_000, said, "the page's address");
    const page = await (await fetch(url)).text();
    const script = /<script>(.*)<\/script>/s.exec(page)![1]!;
    // Bundling must leave the functions of the page whole, and with each other's names.
    const used = [...script.matchAll(/^function (\w+)\(/gm)].map(([, name]) => name);
    assert.ok(used.length > 5, script);
    for (const name of used) {
      assert.ok(script.split(new RegExp(`\\b${name}\\(`)).length > 2, `${name} is not called`);
    }
    assert.doesNotThrow(() => new Function(script));
    const viewer = new WebSocket(`${url.replace("http", "ws")}screen`);
    viewer.binaryType = "arraybuffer";
    const hello = await new Promise<MessageEvent>((resolve, reject) => {
      viewer.onmessage = resolve;
      viewer.onerror = reject;
    });
    assert.equal((hello.data as ArrayBuffer).byteLength, 28);
    viewer.close();
    assert.deepEqual(await program.stop(), { code: 0, signal: null }, program.stderr);
  });
});
