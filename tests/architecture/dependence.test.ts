/** Who may import whom: docs/architecture.md says it, this holds the sources to it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { importsOf, resolve, runtimeNames } from "./imports.ts";
import { files, layerOf, productFiles, read } from "./sources.ts";

/** Layer -> the layers it may import from, besides itself. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  ffi: [],
  core: ["ffi"],
  devices: ["ffi", "core"],
  conventions: ["ffi", "core", "devices", "frontend"],
  frontend: ["ffi", "core"],
  "": ["ffi", "core", "devices", "conventions", "frontend"],
};

/** The protocol's tables, which both sides of the socket read. The rest of core is the back-end. */
const sharedWithFrontEnd = ["protocol", "payloads", "layout", "features"].map(
  (name) => `core/${name}.ts`,
);

/** Says what is wrong with one import, or null. */
function complaint(from: string, specifier: string): string | null {
  const target = resolve(from, specifier);
  if (target === null) return null;
  const [own, other] = [layerOf(from), layerOf(target)];
  if (own === other) return null;
  if (!allowed[own]!.includes(other)) return `${from} must not import ${target}`;
  if (other === "ffi" && target !== "ffi/mod.ts") return `${from} must import ffi/mod.ts`;
  if (own === "frontend" && other === "core" && !sharedWithFrontEnd.includes(target)) {
    return `${from} must not use ${target}: it would test the back-end against itself`;
  }
  return null;
}

const packages = Object.keys(JSON.parse(read("package.json")).dependencies as object);

function isDeclared(specifier: string): boolean {
  return (
    specifier.startsWith(".") ||
    specifier.startsWith("node:") ||
    packages.some((name) => specifier === name || specifier.startsWith(`${name}/`))
  );
}

describe("the rule of dependence", () => {
  it("holds for every import", () => {
    assert.ok(productFiles.length > 20, "the sources were not found");
    const complaints = productFiles.flatMap((file) =>
      importsOf(read(file)).map((specifier) => complaint(file, specifier)),
    );
    assert.deepEqual(complaints.filter(Boolean), []);
  });

  it("is seen when it is broken", () => {
    assert.match(complaint("core/a.ts", "../devices/rng/mod.ts")!, /must not import/);
    assert.match(complaint("core/a.ts", "../ffi/libc.ts")!, /must import ffi\/mod.ts/);
    assert.match(complaint("frontend/a.ts", "../core/split.ts")!, /against itself/);
    assert.equal(complaint("frontend/a.ts", "../core/protocol.ts"), null);
    assert.deepEqual(importsOf('const a = await import("../b.ts"); export * from "./c.ts";'), [
      "../b.ts",
      "./c.ts",
    ]);
  });

  it("lets the product use only packages that are its dependencies", () => {
    const foreign = productFiles
      .filter((file) => !file.startsWith("ffi/"))
      .flatMap((file) => importsOf(read(file)).map((specifier) => [file, specifier] as const))
      .filter(([, specifier]) => !isDeclared(specifier));
    assert.deepEqual(foreign, []);
  });

  it("makes examples import nothing of the project but its public name", () => {
    const inside = files
      .filter((file) => file.startsWith("examples/") && file.endsWith(".ts"))
      .flatMap((file) => importsOf(read(file)).map((specifier) => resolve(file, specifier)))
      .filter((target) => target !== null && !target.startsWith("examples/"));
    assert.deepEqual(inside, []);
  });
});

describe("runtime names", () => {
  it("occur in ffi/ only", () => {
    const elsewhere = [...productFiles, ...files.filter((file) => file.startsWith("examples/"))]
      .filter((file) => file.endsWith(".ts") && !file.startsWith("ffi/"))
      .flatMap((file) => runtimeNames(read(file)).map((name) => `${file}: ${name}`));
    assert.deepEqual(elsewhere, []);
  });

  it("are found in code and not in comments", () => {
    assert.deepEqual(runtimeNames("// Bun does this, Deno that\nexport const runs = 1;"), []);
    assert.deepEqual(runtimeNames('Bun.gc(true); await import("bun:ffi"); "Deno" in globalThis;'), [
      "Bun",
      "bun:ffi",
      "Deno",
    ]);
  });
});
