/** Every example of docs/conventions.md and docs/writing-a-device.md, carried out. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { createMemfd, runtime } from "../../ffi/mod.ts";
import {
  BlkDriver,
  BlkError,
  checkState,
  Frontend,
  protocolFeatures,
  ringFeatures,
  SimpleQueue,
  startStateTransfer,
} from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { Program } from "./program.ts";
import { launch, run } from "./run.ts";
import { patternOf, snippetsOf, stepsOf } from "./snippets.ts";

const PATH = `${join(root, "bin")}:${process.env.PATH}`;

const nothing = new Uint8Array(0);

/** A driver of a device with one queue. */
class Client implements Disposable {
  readonly frontend: Frontend;
  readonly queue: SimpleQueue;

  constructor(socket: string, features = 0n, more = 0n) {
    const protocol = protocolFeatures | more;
    this.frontend = Frontend.open(socket, { features: ringFeatures | features, protocol });
    this.queue = new SimpleQueue(this.frontend);
    this.frontend.start();
  }

  ask(text: string): string {
    return new TextDecoder().decode(this.queue.exchange(new TextEncoder().encode(text), 64));
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}

/** Runs a shell line in a folder; both outputs in one. */
function shell(folder: Folder, line: string): string {
  return run("sh", ["-c", `{ ${line}; } 2>&1`], { cwd: folder.path, env: { PATH } }).stdout;
}

/** Starts a line of a `sh` snippet, which serves a socket, and stops it when that is there. */
async function serveAndStop(folder: Folder, line: string): Promise<void> {
  const socket = folder.at(/--socket-path=(\S+)/.exec(line)![1]!);
  using program = new Program("sh", ["-c", `cd "$0"; PATH=$1; exec ${line}`, folder.path, PATH]);
  await program.listens(socket);
  assert.deepEqual(await program.stop(), { code: 0, signal: null });
}

describe("docs/conventions.md", () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());

  for (const { kind, text } of snippetsOf("docs/conventions.md")) {
    if (kind === "console") {
      for (const { command, output } of stepsOf(text)) {
        it(`shows what "${command}" prints`, () => {
          assert.match(shell(folder, command), patternOf(output));
        });
      }
    } else if (kind === "sh") {
      it(`shows how "${text.trim()}" serves`, () => serveAndStop(folder, text.trim()));
    } else if (kind !== "xml") {
      // The domain is started by tests/guest/libvirt.test.ts.
      it("has no other examples", () => assert.fail(kind));
    }
  }
});

describe("docs/writing-a-device.md", () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());
  const snippets = snippetsOf("docs/writing-a-device.md");
  const fileOf = (text: string) => /^\/\/ (\S+\.ts)\n/.exec(text)?.[1];
  for (const { kind, text } of snippets) {
    if (kind === "ts") writeFileSync(folder.at(fileOf(text) ?? "unnamed"), text);
  }

  /** Runs a device of the page, and a front-end that does something with it. */
  async function drive(file: string, args: string[], act: (socket: string) => void) {
    using socketFolder = new Folder();
    const socket = socketFolder.at("s");
    using program = new Program("ringside", [folder.at(file), `--socket-path=${socket}`, ...args]);
    await program.listens(socket);
    act(socket);
    assert.deepEqual(await program.stop(), { code: 0, signal: null });
    assert.doesNotMatch(program.stderr, / error: /);
  }

  it("names every example's file, and all of them are tested", () => {
    const names = snippets.filter(({ kind }) => kind === "ts").map(({ text }) => fileOf(text));
    const devices = ["fill", "echo", "oracle", "clock", "counter", "pattern-disk"];
    const known = [...devices, "vm"].map((name) => `${name}.ts`);
    assert.deepEqual(names, known);
    assert.deepEqual([...new Set(snippets.map(({ kind }) => kind))].sort(), ["sh", "ts"]);
  });

  for (const { text } of snippets.filter(({ kind }) => kind === "sh")) {
    it(`shows how "${text.trim()}" serves`, () => serveAndStop(folder, text.trim()));
  }

  it("fills buffers", () =>
    drive("fill.ts", ["--byte=7"], (socket) => {
      using client = new Client(socket);
      assert.deepEqual([...client.queue.exchange(nothing, 3)], [7, 7, 7]);
    }));

  it("echoes, counts in its config space, and knows a feature", () =>
    drive("echo.ts", ["--limit=5"], (socket) => {
      {
        using client = new Client(socket);
        assert.equal(client.ask("hello world"), "hello");
        assert.deepEqual([...client.frontend.getConfig(0, 8)!], [5, 0, 0, 0, 1, 0, 0, 0]);
      }
      using client = new Client(socket, 1n);
      assert.equal(client.ask("loud"), "LOUD");
    }));

  it("answers later", () =>
    drive("oracle.ts", [], (socket) => {
      using client = new Client(socket);
      assert.equal(client.ask("why"), "3 bytes? No.");
    }));

  it("begins to talk by itself", () =>
    drive("clock.ts", ["--interval=20"], (socket) => {
      using client = new Client(socket);
      const told = client.ask("");
      assert.equal(new Date(told).toISOString(), told);
    }));

  it("moves its state", () =>
    drive("counter.ts", [], (socket) => {
      const file = createMemfd("state", 0);
      {
        using client = new Client(socket, 0n, mask(ProtocolFeature.DEVICE_STATE));
        for (const count of [1, 2]) {
          assert.deepEqual([...client.queue.exchange(nothing, 1)], [count]);
        }
        const { connection, vrings } = client.frontend;
        for (const vring of vrings) vring.stop(connection);
        startStateTransfer(connection, "save", file);
        assert.equal(checkState(connection), 0n);
      }
      assert.equal(file.stat().size, 1);
      file.close();
    }));

  it("is a disk", () =>
    drive("pattern-disk.ts", ["--sectors=16"], (socket) => {
      using disk = BlkDriver.connect(socket);
      assert.equal(disk.size(), 16 * 512);
      const words = new Uint32Array(disk.read(3, 1024).buffer);
      assert.deepEqual([words[0], words[127], words[128], words[255]], [3, 3, 4, 4]);
      assert.throws(() => disk.read(16, 512), BlkError, "beyond its end");
    }));

  it("serves from a program that has the package installed", () => {
    // The repository stands in for the installed package, which has the same exports.
    const config = join(root, "deno.json");
    folder.write("tsconfig.json", JSON.stringify({ extends: join(root, "tsconfig.json") }));
    const flags = runtime.name === "deno" ? ["run", "-A", "--no-check", `--config=${config}`] : [];
    const { stdout, stderr, status } = run(process.execPath, [...flags, folder.at("vm.ts")], {
      cwd: folder.path,
    });
    assert.deepEqual([stdout, stderr, status], ["serving\ndone\n", "", 0]);
    assert.equal(existsSync(folder.at("clock.sock")), false);
  });
});

describe("the options in docs/conventions.md", () => {
  it("are the common ones of every program", () => {
    const help = launch("vhost-user-rng", ["--help"]).stdout;
    const offered = [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, name]) => name!);
    const text = readFileSync(join(root, "docs/conventions.md"), "utf8");
    const section = text.slice(text.indexOf("## Options"), text.indexOf("## Exit status"));
    const rows = section.split("\n").filter((line) => line.startsWith("| `--"));
    const described = rows.flatMap((row) =>
      [...row.matchAll(/`(--[a-z-]+)/g)].map(([, name]) => name!),
    );
    assert.deepEqual(described.sort(), offered.sort());
  });

  it("are those of ringside install", () => {
    const help = launch("ringside", ["install", "--help"]).stdout;
    const offered = [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, name]) => name!);
    const text = readFileSync(join(root, "docs/conventions.md"), "utf8");
    const missing = offered.filter((name) => name !== "--help" && !text.includes(name));
    assert.deepEqual(missing, []);
  });
});
