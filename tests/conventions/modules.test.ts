/** The names under which devices import Ringside, wherever they are listed. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { publicModules } from "../../conventions/load.ts";
import { root } from "../support/program.ts";

const json = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"));
const ours = (imports: Record<string, string>) =>
  Object.fromEntries(Object.entries(imports).filter(([name]) => name.startsWith("@ringside/")));
const map = (target: (module: string) => string) =>
  Object.fromEntries(Object.entries(publicModules).map(([name, at]) => [name, target(at)]));

describe("the public modules", () => {
  it("are the sources that deno.json maps and exports", () => {
    const { imports, exports } = json("deno.json");
    assert.deepEqual(
      ours(imports),
      map((module) => `./${module}.ts`),
    );
    const exported = Object.entries(exports).map(([name, to]) => [
      `@ringside/vhost${name.slice(1)}`,
      to,
    ]);
    assert.deepEqual(Object.fromEntries(exported), ours(imports));
    for (const path of Object.values(ours(imports))) assert.ok(existsSync(join(root, path)), path);
  });

  it("are the bundles that bin/dist.json maps and package.json exports", () => {
    const { imports } = json("bin/dist.json");
    assert.deepEqual(
      imports,
      map((module) => `../dist/${module}.js`),
    );
    const { exports } = json("package.json");
    for (const [name, module] of Object.entries(publicModules)) {
      const target = exports[`.${name.slice("@ringside/vhost".length)}`];
      assert.equal(target.default, `./dist/${module}.js`);
    }
  });
});
