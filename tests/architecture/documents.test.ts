/** What the documents say must be there: files, commands, and an example that runs. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, it } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { RngDriver } from "../../frontend/mod.ts";
import { Program } from "../tools/process.ts";
import { files, read, root } from "./sources.ts";

const documents = files.filter((file) => file.endsWith(".md"));

function missingLinks(document: string): string[] {
  return [...read(document).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target!.replace(/#.*/, ""))
    .filter((target) => target !== "" && !/^[a-z]+:/.test(target))
    .filter((target) => !existsSync(join(root, dirname(document), target)))
    .map((target) => `${document}: ${target}`);
}

describe("the documents", () => {
  it("link to files that exist", () => {
    assert.ok(documents.includes("README.md"));
    assert.deepEqual(documents.flatMap(missingLinks), []);
  });

  it("name npm scripts that exist", () => {
    const { scripts } = JSON.parse(read("package.json"));
    const named = documents.flatMap((document) =>
      [...read(document).matchAll(/npm (?:run ([a-z:]+)|(test)\b)/g)].map(([, a, b]) => a ?? b!),
    );
    assert.deepEqual(
      [...new Set(named)].filter((name) => !(name in scripts)),
      [],
    );
  });

  it("name programs of bin/ that exist", () => {
    const named = documents.flatMap((document) => [...read(document).matchAll(/\bbin\/[a-z-]+/g)]);
    const missing = named.map(([path]) => path).filter((path) => !existsSync(join(root, path)));
    assert.deepEqual([...new Set(missing)], []);
  });
});

describe("the example of the README", () => {
  const [, source] = /```ts\n([\s\S]*?)```/.exec(read("README.md"))!;
  const folder = mkdtempSync(join(tmpdir(), "ringside-readme-"));
  after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "clock.ts");
  const env = { ...process.env, RINGSIDE_RUNTIME: runtime.name };
  const ringside = join(root, "bin", "ringside");

  it("is as short as the README says", () => {
    assert.ok(source!.trim().split("\n").length <= 20);
  });

  it("is a device, in a folder without node_modules", () => {
    writeFileSync(file, source!);
    const run = (option: string) =>
      execFileSync(ringside, [file, option], { cwd: folder, env, encoding: "utf8" });
    assert.deepEqual(JSON.parse(run("--print-capabilities")), { type: "rng", features: [] });
    assert.match(run("--help"), /--zone=ZONE +Time zone \(default UTC\)/);
  });

  it("gives a driver the time of day", async () => {
    const socket = join(folder, "clock.sock");
    const args = [file, `--socket-path=${socket}`, "--zone=Asia/Tokyo"];
    const program = await new Program(ringside, args, { socket, env }).ready();
    const driver = RngDriver.connect(socket);
    const text = new TextDecoder().decode(driver.read(64));
    driver[Symbol.dispose]();
    assert.ok(Math.abs(Date.parse(`${text} GMT+9`) - Date.now()) < 60_000, text);
    assert.deepEqual(await program.stop(), { code: 0, signal: null }, program.stderr);
  });
});
