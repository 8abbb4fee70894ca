import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { resolvePackage } from "../../conventions/resolve.ts";
import { Folder } from "../support/folder.ts";

function found(manifest: object, specifier: string): string | undefined {
  using folder = new Folder();
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  folder.write(`node_modules/${name}/package.json`, JSON.stringify(manifest));
  const path = resolvePackage(specifier, folder.at("some", "where", "below"));
  return path?.slice(folder.at("node_modules", name).length + 1);
}

describe("resolvePackage()", () => {
  it("follows the exports of a package", () => {
    assert.equal(found({ exports: "./a.js" }, "pkg"), "a.js");
    assert.equal(found({ exports: { import: "./a.js", require: "./b.js" } }, "pkg"), "a.js");
    const nested = { ".": { types: "./a.d.ts", import: { default: "./a.js" } }, "./sub": "./s.js" };
    assert.equal(found({ exports: nested }, "pkg"), "a.js");
    assert.equal(found({ exports: nested }, "@scope/pkg/sub"), "s.js");
    assert.equal(found({ exports: nested }, "pkg/other"), undefined);
    assert.equal(found({ exports: { require: "./b.cjs" } }, "pkg"), undefined);
    assert.equal(found({ exports: { "./sub": "./s.js" } }, "pkg/sub"), "s.js");
  });

  it("falls back to main and to paths", () => {
    assert.equal(found({ main: "m.js" }, "pkg"), "m.js");
    assert.equal(found({ module: "m.mjs", main: "m.js" }, "@scope/pkg"), "m.mjs");
    assert.equal(found({}, "pkg"), "index.js");
    assert.equal(found({}, "pkg/lib/x.js"), "lib/x.js");
  });

  it("finds nothing where nothing is installed", () => {
    using folder = new Folder();
    assert.equal(resolvePackage("ringside-nonesuch", folder.path), undefined);
  });
});
