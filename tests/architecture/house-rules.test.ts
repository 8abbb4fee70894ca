/** Rules of CONTRIBUTING.md that a program can check and no other tool does. */
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { files, read, root } from "./sources.ts";

/** Bytes of the longest source file: one idea fits in less. */
const SIZE_LIMIT = 15_500;

const isText = (file: string) => !readFileSync(join(root, file)).includes(0);

/** Put together here, because this file is searched as well. */
const hosts = [
  ["registry", "npmjs", "org"],
  ["registry", "yarnpkg", "com"],
  ["deb", "debian", "org"],
  ["jsr", "io"],
].map((words) => words.join("\\."));
const folders = ["work", "home"].map((name) => `(?<![\\w}.])/${name}/`);
const foreign = new RegExp([...hosts, ...folders].join("|"));

describe("house rules", () => {
  it("keep every source file short", () => {
    const long = files
      .filter((file) => /\.(ts|mts|mjs|js|sh)$/.test(file))
      .map((file) => ({ file, size: statSync(join(root, file)).size }))
      .filter(({ size }) => size > SIZE_LIMIT);
    assert.deepEqual(long, []);
  });

  it("keep registry hosts and paths of one machine out of the repository", () => {
    const found = files.filter(isText).flatMap((file) => {
      const match = foreign.exec(read(file));
      return match === null ? [] : [`${file}: ${match[0]}`];
    });
    assert.deepEqual(found, []);
    assert.match(`cd ${["", "work", "x"].join("/")}`, foreign);
    assert.doesNotMatch("$LAB/home/work/usr", foreign);
  });

  it("name files in kebab-case", () => {
    const odd = files
      .filter((file) => /\.(ts|mjs)$/.test(file))
      .filter((file) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z]+)*$/.test(file.split("/").at(-1)!));
    assert.deepEqual(odd, []);
  });

  it("leave no focused test behind", () => {
    const focused = files
      .filter((file) => file.endsWith(".test.ts"))
      .filter((file) => /\b(it|test|describe|suite)\.only\(/.test(read(file)));
    assert.deepEqual(focused, []);
  });
});
