/** The shell scripts in bin/: which runtime they find, and from where they work. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { launch, run } from "./run.ts";

const otherRuntime = runtime.name === "bun" ? "deno" : "bun";

/** A stand-in for a runtime: says which file it is and how it was called. */
const fake = `#!/bin/sh\necho "$0 $*"\n`;

/** The launchers in a tree of their own, with the fewest other files they need. */
function transplant(folder: Folder, place: string, main: string): string {
  const bin = folder.at(place, "bin");
  mkdirSync(bin, { recursive: true });
  for (const name of ["ringside", "vhost-user-blk"]) {
    writeFileSync(join(bin, name), readFileSync(join(root, "bin", name)), { mode: 0o755 });
  }
  folder.write(join(place, main), "");
  return join(bin, "ringside");
}

/** Makes a runtime's program that a launcher accepts as such, though it only prints. */
function fakeProgram(folder: Folder, name: string): string {
  return folder.write(name, fake, 0o755);
}

const noPath = (folder: Folder) => {
  // readlink is all that the launchers need.
  const bin = folder.at("tools");
  mkdirSync(bin, { recursive: true });
  for (const tool of ["readlink", "sh"]) symlinkSync(`/bin/${tool}`, join(bin, tool));
  return bin;
};

describe("the launchers", () => {
  it("work from any folder, through links of links", () => {
    using folder = new Folder();
    mkdirSync(folder.at("bin"));
    symlinkSync(join(root, "bin", "vhost-user-blk"), folder.at("bin", "first"));
    symlinkSync("bin/first", folder.at("second"));
    for (const [command, cwd] of [
      [folder.at("bin", "first"), "/"],
      [folder.at("second"), "/"],
      ["./second", folder.path],
      ["../second", folder.at("bin")],
    ] as const) {
      const { status, stdout, stderr } = run(command, ["--print-capabilities"], { cwd });
      assert.deepEqual([status, stderr], [0, ""], command);
      assert.equal(JSON.parse(stdout).type, "block");
    }
  });

  it("work when found in PATH, and when given to sh by name", () => {
    const PATH = `${join(root, "bin")}:${process.env.PATH}`;
    const found = run("sh", ["-c", "vhost-user-blk --version"], { cwd: "/", env: { PATH } });
    assert.match(found.stdout, /^vhost-user-blk /);
    const cwd = join(root, "bin");
    assert.match(run("sh", ["ringside", "--version"], { cwd, env: { PATH } }).stdout, /^ringside /);
  });

  it("work in a folder whose name needs quoting, from a relative path", () => {
    using folder = new Folder();
    symlinkSync(root, folder.at("a b'c"));
    const { stdout } = run(join("a b'c", "bin", "ringside"), ["--version"], { cwd: folder.path });
    assert.match(stdout, /^ringside /);
  });

  it("pass arguments and the exit status on", () => {
    const { status, stderr } = launch("vhost-user-rng", ["a b", "$HOME"]);
    assert.equal(status, 2);
    assert.match(stderr, /Unexpected argument "a b"/);
  });

  it("obey no configuration of the current folder", () => {
    using folder = new Folder();
    folder.write("bunfig.toml", 'preload = ["./evil.ts"]\n');
    folder.write("evil.ts", 'console.log("evil");');
    folder.write(".env", "RINGSIDE_LIBC=/nonexistent.so\n");
    folder.write("deno.json", '{ "imports": { "typebox": "./evil.ts" } }');
    const { status, stdout } = launch("vhost-user-rng", ["--version"], { cwd: folder.path });
    assert.equal(status, 0);
    assert.match(stdout, /^vhost-user-rng \S+\n$/);
  });

  it("need no home and no writable folder", () => {
    const env = { HOME: "/proc/nonexistent", XDG_CACHE_HOME: undefined, DENO_DIR: undefined };
    const { status, stderr } = launch("vhost-user-rng", ["--version"], { cwd: "/proc", env });
    assert.deepEqual([status, stderr], [0, ""]);
  });
});

describe("RINGSIDE_RUNTIME", () => {
  /** Asks a device that names the runtime it runs under. */
  function runtimeUsed(value: string | undefined): string {
    using folder = new Folder();
    folder.write("ask.ts", 'import { runtime } from "@ringside/vhost/ffi"; throw runtime.name;');
    const env = { RINGSIDE_RUNTIME: value };
    return launch("ringside", [folder.at("ask.ts")], { env })
      .stderr.trim()
      .split(" ")
      .at(-1)!;
  }

  it("chooses the runtime by name or by path", () => {
    assert.equal(runtimeUsed("bun"), "bun");
    assert.equal(runtimeUsed("deno"), "deno");
    assert.equal(runtimeUsed(process.execPath), runtime.name);
    assert.equal(runtimeUsed(undefined), "bun");
  });

  it("is refused when it makes no sense", () => {
    const refusal = (value: string) => {
      const { status, stderr } = launch("ringside", ["help"], { env: { RINGSIDE_RUNTIME: value } });
      assert.equal(status, 1);
      assert.match(stderr, /^ringside: [^\n]+\n$/);
      return stderr;
    };
    assert.match(refusal("node"), /Cannot use RINGSIDE_RUNTIME=node: expected bun, deno or an abs/);
    assert.match(refusal("/bin/sh"), /it is neither bun nor deno/);
    assert.match(refusal("/nonexistent/bun"), /no such program/);
  });
});

describe("the search for a runtime", () => {
  it("ends in PATH, with Bun before Deno", () => {
    using folder = new Folder();
    const ringside = transplant(folder, "app", "cli.ts");
    const bun = fakeProgram(folder, "path/bun");
    const deno = fakeProgram(folder, "path/deno");
    const PATH = `${dirname(bun)}:${noPath(folder)}`;
    const first = run(ringside, ["x"], { env: { PATH, RINGSIDE_RUNTIME: undefined } });
    assert.match(
      first.stdout,
      new RegExp(`^${bun} --no-install .* ${folder.at("app/cli.ts")} x\n$`),
    );
    const named = run(ringside, ["x"], { env: { PATH, RINGSIDE_RUNTIME: "deno" } });
    assert.match(
      named.stdout,
      new RegExp(`^${deno} run -A .*--config=${folder.at("app/deno.json")}`),
    );
  });

  it("says so when there is none", () => {
    using folder = new Folder();
    const ringside = transplant(folder, "app", "cli.ts");
    const PATH = noPath(folder);
    const { status, stderr } = run(ringside, [], { env: { PATH, RINGSIDE_RUNTIME: undefined } });
    assert.equal(status, 1);
    assert.match(stderr, /^ringside: Cannot find Bun or Deno in .*app\/node_modules or PATH/);
    const named = run(ringside, [], { env: { PATH, RINGSIDE_RUNTIME: otherRuntime } });
    assert.match(named.stderr, /^ringside: Cannot find (Bun|Deno) in /);
  });

  it("passes over the scripts that stand in for programs which npm did not unpack", () => {
    using folder = new Folder();
    const ringside = transplant(folder, "app", "cli.ts");
    fakeProgram(folder, "app/node_modules/bun/bin/bun.exe");
    fakeProgram(folder, "app/node_modules/deno/deno");
    const PATH = noPath(folder);
    const { stderr } = run(ringside, [], { env: { PATH, RINGSIDE_RUNTIME: undefined } });
    assert.match(stderr, /Cannot find Bun or Deno/);
    // A program of the platform's package is one, whatever it does.
    const platform = folder.at("app/node_modules/@oven/bun-linux-x64/bin");
    mkdirSync(platform, { recursive: true });
    copyFileSync("/bin/true", join(platform, "bun"));
    const found = run(ringside, [], { env: { PATH, RINGSIDE_RUNTIME: undefined } });
    assert.deepEqual([found.status, found.stderr], [0, ""]);
  });

  it("looks beside an installed package, which runs from dist/", () => {
    using folder = new Folder();
    const ringside = transplant(folder, "node_modules/@ringside/vhost", "dist/cli.js");
    const program = folder.at("node_modules/bun/bin");
    mkdirSync(program, { recursive: true });
    copyFileSync("/bin/echo", join(program, "bun.exe"));
    const PATH = noPath(folder);
    const { stdout } = run(ringside, ["x"], { env: { PATH, RINGSIDE_RUNTIME: undefined } });
    assert.match(stdout, /^--no-install .*node_modules\/@ringside\/vhost\/dist\/cli\.js x\n$/);
  });

  it("says when there is nothing to run", () => {
    using folder = new Folder();
    const ringside = transplant(folder, "app", "README");
    const env = { RINGSIDE_RUNTIME: process.execPath };
    assert.match(run(ringside, [], { env }).stderr, /Cannot find .*cli\.ts or .*dist\/cli\.js/);
  });
});
