/** package.json, package-lock.json and deno.json agree with each other and with the sources. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { read, root } from "./sources.ts";

interface Lock {
  packages: Record<
    string,
    {
      version: string;
      resolved?: string;
      dependencies?: Record<string, string>;
      devDependencies?: Record<string, string>;
      optionalDependencies?: Record<string, string>;
    }
  >;
}

const manifest = JSON.parse(read("package.json"));
const lock: Lock = JSON.parse(read("package-lock.json"));
const source = (path: string) => path.replace("./dist/", "./").replace(/\.js$/, ".ts");

describe("package.json", () => {
  it("pins every dependency to one version", () => {
    const ranges = Object.values({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      (version) => !/^\d+\.\d+\.\d+$/.test(version as string),
    );
    assert.deepEqual(ranges, []);
  });

  it("names programs that exist and may be executed", () => {
    for (const path of Object.values(manifest.bin as Record<string, string>)) {
      assert.ok(statSync(join(root, path)).mode & 0o111, `${path} is not executable`);
    }
  });

  it("exports, types first, what deno.json exports as sources", () => {
    const exported = Object.entries(manifest.exports as Record<string, unknown>).filter(
      ([, target]) => typeof target === "object",
    ) as [string, { types: string; default: string }][];
    for (const [, target] of exported) {
      assert.deepEqual(Object.keys(target), ["types", "default"]);
      assert.equal(target.types, target.default.replace(/\.js$/, ".d.ts"));
      assert.ok(existsSync(join(root, source(target.default))), `${target.default} has no source`);
    }
    const sources = Object.fromEntries(exported.map(([name, to]) => [name, source(to.default)]));
    assert.deepEqual(JSON.parse(read("deno.json")).exports, sources);
  });

  it("has the version of deno.json", () => {
    const other = JSON.parse(read("deno.json"));
    assert.deepEqual([other.name, other.version], [manifest.name, manifest.version]);
  });
});

describe("package-lock.json", () => {
  it("belongs to package.json", () => {
    const own = lock.packages[""]!;
    assert.equal(own.version, manifest.version);
    assert.deepEqual(own.dependencies, manifest.dependencies);
    assert.deepEqual(own.devDependencies, manifest.devDependencies);
  });

  it("names no registry", () => {
    const resolved = Object.values(lock.packages).filter((row) => row.resolved !== undefined);
    assert.deepEqual(resolved, []);
  });

  it("has a row for every optional package, which `npm ci` insists on", () => {
    const missing = Object.values(lock.packages)
      .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
      .filter((name) => lock.packages[`node_modules/${name}`] === undefined);
    assert.deepEqual(missing, [], 'run "npm run lock"');
  });
});
