/** What a device's own code may do without taking the program along. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, it } from "node:test";
import { Folder } from "../support/folder.ts";
import { Program } from "./program.ts";
import { connectAndAsk } from "./talk.ts";

/** A device file whose `open` begins with some code, `host` being in scope. */
function deviceWith(code: string, members = ""): string {
  return `import { defineDevice, layout, Type } from "@ringside/vhost";
export default defineDevice({
  type: "rng",
  id: 4,
  summary: "A device for tests",
  options: Type.Object({}),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  async open(_options, host) {
    ${code}
    return { config: {}, device: { ${members} } };
  },
});
`;
}

function start(folder: Folder, source: string, ...args: string[]): Program {
  const file = folder.write("device.ts", source);
  return new Program("ringside", [file, `--socket-path=${folder.at("s")}`, ...args]);
}

/** Waits for a line of the program's log. */
async function logged(program: Program, pattern: RegExp): Promise<void> {
  for (const start = performance.now(); !pattern.test(program.stderr); ) {
    assert.ok(performance.now() - start < 10_000, `no ${pattern} in ${program.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("a program", () => {
  it("survives stray rejections and exceptions of its device, and logs them in one line", async () => {
    using folder = new Folder();
    const source = deviceWith(`
      setTimeout(() => Promise.reject(new Error("stray rejection")), 50);
      setTimeout(() => { throw new Error("stray exception"); }, 100);`);
    using program = start(folder, source);
    await logged(program, /stray rejection/);
    await logged(program, /stray exception/);
    (await connectAndAsk(folder.at("s"))).close();
    assert.equal((await program.stop()).code, 0);
    for (const line of program.stderr.trim().split("\n")) assert.match(line, /^vhost-user-rng: /);
  });

  it("ends on SIGTERM while the device is still being opened", async () => {
    using folder = new Folder();
    const source = deviceWith('host.log.info("opening"); await new Promise(() => {});');
    using program = start(folder, source);
    await logged(program, /opening/);
    assert.deepEqual(await program.stop(), { code: 0, signal: null });
    assert.equal(existsSync(folder.at("s")), false);
  });

  it("passes SIGHUP on to its device, and disposes it at the end", async () => {
    using folder = new Folder();
    const members = `
      reload() { host.log.info("reloaded"); },
      [Symbol.dispose]() { host.log.info("disposed"); }`;
    using program = start(folder, deviceWith("", members));
    await program.listens(folder.at("s"));
    process.kill(program.pid, "SIGHUP");
    await logged(program, /info: reloaded/);
    assert.equal((await program.stop()).code, 0);
    assert.match(program.stderr, /info: disposed\n$/);
  });

  it("tells the whole story of a failed start with --log-level=debug", async () => {
    using folder = new Folder();
    const source = deviceWith('throw new Error("Cannot open the box");');
    using program = start(folder, source, "--log-level=debug");
    assert.equal((await program.ended).code, 1);
    const [story, line] = program.stderr.trim().split("\n");
    assert.match(story!, /^vhost-user-rng: debug: Error: Cannot open the box \| at .*device\.ts/);
    assert.equal(line, "vhost-user-rng: Cannot open the box");
  });
});
