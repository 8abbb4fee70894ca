/** Back-end programs as management software sees them: arguments, exit statuses, signals, sockets. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { accept, type Fd, listenUnix } from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";
import { Program } from "./program.ts";
import { launch, run } from "./run.ts";
import { askFeatures, connectAndAsk } from "./talk.ts";

const needsCompiler = compilerMissing() ?? false;

/** Starts the rng device with a socket passed as descriptor `number`. */
function startWithFd(folder: Folder, kind: string, number: number): Program {
  const args = [kind, folder.at("s"), String(number), join(root, "bin", "vhost-user-rng")];
  const tool = buildTool("tests/conventions/pass-fd.c");
  return new Program(tool, [...args, `--fd=${number}`]);
}

/** One line on stderr, and nothing else. */
function complaint(stderr: string): string {
  assert.match(stderr, /^[^\n]+\n$/, "one line");
  return stderr.trim();
}

describe("--print-capabilities", () => {
  it("prints JSON and exits 0 whatever else is wrong", () => {
    const wrong = ["--blk-file=/nonexistent", "--fd=-1", "--nonsense", "stray", "--help"];
    const { status, stdout, stderr } = launch("vhost-user-blk", [...wrong, "--print-capabilities"]);
    assert.deepEqual(JSON.parse(stdout), { type: "block", features: ["blk-file", "read-only"] });
    assert.deepEqual([status, stderr], [0, ""]);
  });

  it("works for each program", () => {
    const { stdout } = launch("vhost-user-rng", ["--print-capabilities"]);
    assert.deepEqual(JSON.parse(stdout), { type: "rng", features: [] });
    assert.equal(launch("ringside", ["rng", "--print-capabilities"]).stdout, stdout);
  });
});

describe("--help and --version", () => {
  it("go to stdout with status 0", () => {
    const help = launch("vhost-user-blk", ["--help"]);
    assert.equal(help.status, 0);
    assert.match(help.stdout, /^Usage: vhost-user-blk --socket-path=PATH/);
    assert.match(help.stdout, /--blk-file=FILE/);
    const version = launch("vhost-user-rng", ["--version"]);
    assert.match(version.stdout, /^vhost-user-rng \d+\.\d+\.\d+\n$/);
  });

  it("exist for ringside itself", () => {
    const { stdout } = launch("ringside", ["help"]);
    assert.match(stdout, /blk +Block device/);
    assert.match(stdout, /install +/);
    assert.equal(launch("ringside", []).stdout, stdout);
    assert.match(launch("ringside", ["help", "rng"]).stdout, /^Usage: vhost-user-rng/);
    assert.match(launch("ringside", ["help", "install"]).stdout, /^Usage: ringside install/);
    assert.match(launch("ringside", ["--version"]).stdout, /^ringside \d/);
  });
});

describe("a wrong command line", () => {
  const cases: [string, string[], string][] = [
    ["neither socket nor descriptor", [], "Missing option: give --socket-path=PATH or --fd=FDNUM"],
    ["both of them", ["--fd=3", "--socket-path=/x"], "Cannot use --socket-path together with --fd"],
    ["an unknown option", ["--fdd=3"], "Unknown option --fdd: did you mean --fd?"],
    ["an argument that is no option", ["x"], 'Unexpected argument "x": options begin with --'],
  ];
  for (const [name, args, message] of cases) {
    it(`ends with status 2 and one line: ${name}`, () => {
      const { status, stdout, stderr } = launch("vhost-user-rng", args);
      assert.equal(complaint(stderr), `vhost-user-rng: ${message}`);
      assert.deepEqual([status, stdout], [2, ""]);
    });
  }

  it("includes commands and devices that do not exist", () => {
    const { status, stderr } = launch("ringside", ["bkl"]);
    assert.match(complaint(stderr), /^ringside: Unknown device "bkl".*did you mean blk\?$/);
    assert.equal(status, 2);
  });
});

describe("a failure at start-up", () => {
  it("ends with status 1 and one line when the device cannot be opened", () => {
    using folder = new Folder();
    const args = [`--blk-file=${folder.at("none")}`, `--socket-path=${folder.at("s")}`];
    const { status, stderr } = launch("vhost-user-blk", args);
    assert.match(complaint(stderr), /^vhost-user-blk: Cannot open .*none/);
    assert.equal(status, 1);
    assert.equal(existsSync(folder.at("s")), false);
  });

  it("ends with status 1 and one line when the socket cannot be used", () => {
    using folder = new Folder();
    folder.write("s", "a file");
    const { status, stderr } = launch("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
    assert.match(complaint(stderr), /^vhost-user-rng: Cannot listen on .*not a socket$/);
    assert.equal(status, 1);
    assert.ok(existsSync(folder.at("s")));
  });

  it("does not disturb another program's socket", () => {
    using folder = new Folder();
    using _live = listenUnix(folder.at("s"));
    const { status, stderr } = launch("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
    assert.match(complaint(stderr), /another program is listening there$/);
    assert.equal(status, 1);
    assert.ok(existsSync(folder.at("s")));
  });

  it("ends with status 1 when the descriptor is no socket", () => {
    const program = join(root, "bin", "vhost-user-rng");
    const { status, stderr } = run("sh", ["-c", 'exec "$0" --fd=7 7</dev/null', program]);
    assert.match(complaint(stderr), /^vhost-user-rng: Cannot use --fd=7: it is not a Unix/);
    assert.equal(status, 1);
    const missing = launch("vhost-user-rng", ["--fd=999"]);
    assert.match(complaint(missing.stderr), /no such descriptor was passed$/);
    assert.equal(missing.status, 1);
  });
});

describe("--socket-path", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`serves until ${signal}, then exits 0 and removes the socket`, async () => {
      using folder = new Folder();
      using program = new Program("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
      await program.listens(folder.at("s"));
      using _connection = await connectAndAsk(folder.at("s"));
      assert.deepEqual(await program.stop(signal), { code: 0, signal: null });
      assert.equal(existsSync(folder.at("s")), false);
    });
  }

  it("accepts one front-end after another", async () => {
    using folder = new Folder();
    using program = new Program("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
    await program.listens(folder.at("s"));
    for (let i = 0; i < 3; i++) (await connectAndAsk(folder.at("s"))).close();
    assert.equal((await program.stop()).code, 0);
  });

  it("replaces the socket of a killed program", async () => {
    using folder = new Folder();
    using killed = new Program("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
    await killed.listens(folder.at("s"));
    await killed.stop("SIGKILL");
    assert.ok(existsSync(folder.at("s")));
    using program = new Program("vhost-user-rng", [`--socket-path=${folder.at("s")}`]);
    (await connectAndAsk(folder.at("s"))).close();
    assert.equal((await program.stop()).code, 0);
    assert.equal(existsSync(folder.at("s")), false);
  });

  it("survives SIGHUP", async () => {
    using folder = new Folder();
    using program = new Program("vhost-user-blk", [
      "--blk-file=ram:1M",
      `--socket-path=${folder.at("s")}`,
    ]);
    await program.listens(folder.at("s"));
    (await connectAndAsk(folder.at("s"))).close();
    process.kill(program.pid, "SIGHUP");
    (await connectAndAsk(folder.at("s"))).close();
    assert.ok(program.running);
    assert.equal((await program.stop()).code, 0);
  });

  it("logs to stderr in the form and from the level that were asked for", async () => {
    using folder = new Folder();
    const socket = `--socket-path=${folder.at("s")}`;
    using program = new Program("vhost-user-rng", [socket, "--log-format=json"]);
    await program.listens(folder.at("s"));
    await program.stop();
    const records = program.stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(records[0].message, `Listening on ${folder.at("s")}`);
    assert.equal(records[0].program, "vhost-user-rng");
    using quiet = new Program("vhost-user-rng", [socket, "--log-level=error"]);
    await quiet.listens(folder.at("s"));
    await quiet.stop();
    assert.equal(quiet.stderr, "");
  });
});

/** The next connection to a listening socket. */
async function accepted(listener: Fd): Promise<Fd> {
  for (;;) {
    const connection = accept(listener);
    if (connection !== null) return connection;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("--fd", { skip: needsCompiler }, () => {
  it("serves a connected socket and exits 0 at its end", async () => {
    using folder = new Folder();
    using listener = listenUnix(folder.at("s"));
    using program = startWithFd(folder, "connect", 5);
    const connection = await accepted(listener);
    assert.ok((await askFeatures(connection)) > 0n);
    connection.close();
    assert.deepEqual(await program.ended, { code: 0, signal: null });
    assert.ok(existsSync(folder.at("s")), "the socket's path is not ours to remove");
  });

  it("serves a listening socket and outlives its front-ends", async () => {
    using folder = new Folder();
    using program = startWithFd(folder, "listen", 23);
    await program.listens(folder.at("s"));
    for (let i = 0; i < 2; i++) (await connectAndAsk(folder.at("s"))).close();
    assert.ok(program.running);
    assert.equal((await program.stop()).code, 0);
    assert.ok(existsSync(folder.at("s")), "the socket's path is not ours to remove");
  });

  it("ends on SIGTERM while connected", async () => {
    using folder = new Folder();
    using listener = listenUnix(folder.at("s"));
    using program = startWithFd(folder, "connect", 3);
    const connection = await accepted(listener);
    await askFeatures(connection);
    assert.equal((await program.stop()).code, 0);
    connection.close();
  });

  it("refuses a socket that is no stream", async () => {
    using folder = new Folder();
    using program = startWithFd(folder, "datagram", 7);
    assert.equal((await program.ended).code, 1);
    assert.match(complaint(program.stderr), /Cannot use --fd=7: it is not a Unix stream socket$/);
  });
});
