import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { describe, it } from "node:test";
import { Check } from "typebox/schema";
import { descriptorSchema, writeDescriptor } from "../../conventions/descriptor.ts";
import { discover, searchPath } from "../../conventions/discovery.ts";
import { Folder } from "../support/folder.ts";

const json = (type: string, binary = "/bin/sh", description = "A back-end") =>
  JSON.stringify({ description, type, binary });

/** Writes files into two folders, `low` and `high`, and reads them as libvirt does. */
function inspect(files: Readonly<Record<string, string>>, prepare = (_: Folder) => {}) {
  using folder = new Folder();
  for (const name of ["low", "high"]) mkdirSync(folder.at(name));
  for (const [name, text] of Object.entries(files)) folder.write(name, text);
  prepare(folder);
  const { found, chosen } = discover([folder.at("low"), folder.at("high"), folder.at("absent")]);
  const short = (path: string) => path.slice(folder.path.length + 1);
  return {
    found: found.map(({ path }) => short(path)),
    errors: found.flatMap(({ path, error }) => (error === null ? [] : [[short(path), error]])),
    warnings: found.flatMap(({ warnings }) => warnings),
    chosen: Object.fromEntries([...chosen].map(([type, { path }]) => [type, short(path)])),
  };
}

describe("searchPath()", () => {
  const env = { HOME: "/users/me" };

  it("ends in the user's own folder, except for the system's libvirt", () => {
    const system = ["/usr/share/qemu/vhost-user", "/etc/qemu/vhost-user"];
    assert.deepEqual(searchPath({ privileged: true, env }), system);
    const own = [...system, `${env.HOME}/.config/qemu/vhost-user`];
    assert.deepEqual(searchPath({ privileged: false, env }), own);
    const moved = { ...env, XDG_CONFIG_HOME: "/cfg" };
    assert.equal(searchPath({ privileged: false, env: moved })[2], "/cfg/qemu/vhost-user");
  });

  it("moves with libvirt's prefix", () => {
    assert.deepEqual(searchPath({ prefix: "/opt/virt", privileged: true }), [
      "/opt/virt/share/qemu/vhost-user",
      "/opt/virt/etc/qemu/vhost-user",
    ]);
  });
});

describe("discover()", () => {
  it("orders files by name over all folders, and takes the first of a type", () => {
    const { found, chosen } = inspect({
      "low/50-b.json": json("gpu"),
      "high/60-c.json": json("block"),
      "low/40-a.json": json("block"),
      "low/B.json": json("net"),
      "low/a.json": json("net"),
    });
    const order = ["low/40-a.json", "low/50-b.json", "high/60-c.json", "low/B.json", "low/a.json"];
    assert.deepEqual(found, order);
    assert.deepEqual(chosen, { block: "low/40-a.json", gpu: "low/50-b.json", net: "low/B.json" });
  });

  it("replaces a file by one of the same name in a later folder", () => {
    const { found, chosen } = inspect({ "low/50.json": json("gpu"), "high/50.json": json("rng") });
    assert.deepEqual(found, ["high/50.json"]);
    assert.deepEqual(chosen, { rng: "high/50.json" });
  });

  it("lets an empty file hide those of its name", () => {
    const { chosen, errors } = inspect({
      "low/50.json": "{ broken",
      "high/50.json": "",
      "low/60.json": json("gpu"),
    });
    assert.deepEqual(errors, []);
    assert.deepEqual(chosen, { gpu: "low/60.json" });
  });

  it("skips dot files and what is no file, and follows links", () => {
    const { found } = inspect({ "low/.x.json": "{", "else.json": json("gpu") }, (folder) => {
      mkdirSync(folder.at("low/folder.json"));
      symlinkSync("../else.json", folder.at("low/70-link.json"));
    });
    assert.deepEqual(found, ["low/70-link.json"]);
  });

  it("reports each kind of file that ends all discovery", () => {
    const cases: [string, RegExp][] = [
      ["{ not json", /cannot be read as JSON/],
      ["[]", /no "type"/],
      ["null", /no "type"/],
      [json("toaster"), /type "toaster" is unknown/],
      ['{"type":"gpu","binary":"/bin/sh","tags":[],"tags":[]}', /"tags" is there twice/],
      ['{"type":"gpu","binary":"/bin/sh","x":[{"a":1,"a":{}}]}', /"a" is there twice/],
      ['{"type":"gpu","binary":"/bin/sh",}', /cannot be read as JSON/],
      ['\ufeff{"type":"gpu","binary":"/bin/sh"}', /cannot be read as JSON/],
      [
        `{"type":"gpu","binary":"/bin/sh","description":"${"x".repeat(2 ** 20)}"}`,
        /more than 1048576/,
      ],
    ];
    for (const [text, message] of cases) {
      const { errors, chosen } = inspect({ "low/10.json": json("rng"), "low/README": text });
      assert.equal(errors.length, 1);
      assert.match(errors[0]![1]!, message);
      assert.deepEqual(chosen, {}, "nothing is found beside a broken file");
    }
  });

  it("reports a link to nothing, even behind a later file of its name", () => {
    const { errors } = inspect({ "high/50.json": json("gpu") }, (folder) => {
      symlinkSync("nowhere", folder.at("low/50.json"));
    });
    assert.deepEqual(errors, [["low/50.json", "it is a link to nothing"]]);
  });

  it("warns of what libvirt does not mind", () => {
    const { errors, warnings } = inspect({
      "low/1.json": json("gpu", "/nonexistent/gpu"),
      "low/2.json": JSON.stringify({ type: "gpu", binary: "/bin/sh" }),
      "low/3.json": json("gpu", "bin/relative"),
      "low/4.json":
        '{"type":"gpu","description":"{\\"a\\":[1],\\"a\\":2}","x":{"type":1},"y":["type"]}',
    });
    assert.deepEqual(errors, []);
    assert.equal(warnings.length, 4);
    assert.match(warnings[0]!, /cannot be run: \/nonexistent\/gpu/);
    assert.match(warnings[1]!, /differs from vhost-user\.json: .*description/);
    assert.match(warnings[2]!, /"binary" /);
    assert.match(warnings[3]!, /binary/);
  });
});

describe("writeDescriptor()", () => {
  it("writes what fits the schema and is found again", () => {
    using folder = new Folder();
    const descriptor = { description: "x", type: "block", binary: "/bin/sh", tags: ["a"] } as const;
    assert.equal(Check(descriptorSchema, descriptor), true);
    writeDescriptor(folder.at("deep/50-x.json"), { ...descriptor, tags: ["a"] });
    const { found, chosen } = discover([folder.at("deep")]);
    assert.deepEqual([...chosen.keys()], ["block"]);
    assert.deepEqual(found[0]!.warnings, []);
  });

  it("knows the types of vhost-user.json and no others", () => {
    const valid = (type: string) =>
      Check(descriptorSchema, { description: "x", type, binary: "/x" });
    assert.equal(valid("rproc-serial"), true);
    assert.equal(valid("blk"), false);
  });
});
