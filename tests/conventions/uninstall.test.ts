/** `ringside uninstall`: takes back what `ringside install` wrote, and nothing else. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { describe, it } from "node:test";
import { Folder } from "../support/folder.ts";
import { launch } from "./run.ts";

function ringside(folder: Folder, ...args: string[]) {
  const env = { XDG_CONFIG_HOME: folder.at("config") };
  const outcome = launch("ringside", [...args, `--prefix=${folder.at("here")}`], {
    cwd: folder.path,
    env,
  });
  return { ...outcome, lines: outcome.stdout.trim().split("\n") };
}

/** Everything below the prefix that is no folder. */
const remaining = (folder: Folder) =>
  readdirSync(folder.at("here"), { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
    .sort();

const launcher = "here/libexec/ringside/vhost-user-rng";
const descriptor = "here/share/qemu/vhost-user/50-ringside-rng.json";

describe("ringside uninstall", () => {
  it("removes what was written and the folders that were made, and says so", () => {
    using folder = new Folder();
    ringside(folder, "install", "rng", "net");
    const { status, lines, stderr } = ringside(folder, "uninstall");
    assert.deepEqual([status, stderr], [0, ""]);
    assert.ok(lines.includes(`Removed ${folder.at(launcher)}`));
    assert.ok(lines.includes(`Removed ${folder.at(descriptor)}`));
    assert.equal(lines.at(-1), `Removed ${folder.at("here")}`);
    assert.equal(existsSync(folder.at("here")), false);
  });

  it("says that there is nothing when there is nothing", () => {
    using folder = new Folder();
    ringside(folder, "install", "rng");
    ringside(folder, "uninstall");
    const nothing = `Nothing is installed in ${folder.at("here/libexec/ringside")}`;
    for (const name of [[], ["rng"]]) {
      const { status, lines } = ringside(folder, "uninstall", ...name);
      assert.deepEqual([status, lines], [0, [nothing]]);
    }
  });

  it("leaves what others put there, folders that were there included", () => {
    using folder = new Folder();
    folder.write("here/share/qemu/vhost-user/40-other.json", "{}");
    ringside(folder, "install", "rng");
    folder.write("here/libexec/ringside/vhost-user-other", "#!/bin/sh\n");
    assert.equal(ringside(folder, "uninstall").status, 0);
    assert.deepEqual(remaining(folder), ["40-other.json", "vhost-user-other"]);
  });

  it("keeps a file that was changed, and minds none that is missing", () => {
    using folder = new Folder();
    ringside(folder, "install", "rng");
    folder.write(launcher, "#!/bin/sh\nexec my-own\n");
    rmSync(folder.at(descriptor));
    const { lines } = ringside(folder, "uninstall");
    assert.equal(lines[0], `Kept ${folder.at(launcher)}: it was changed since it was installed`);
    assert.equal(lines[1], `Missing already: ${folder.at(descriptor)}`);
    assert.deepEqual(remaining(folder), ["vhost-user-rng"]);
    assert.match(ringside(folder, "uninstall").lines[0]!, /^Nothing is installed/);
  });

  it("removes single devices", () => {
    using folder = new Folder();
    ringside(folder, "install", "rng", "net");
    const wrong = ringside(folder, "uninstall", "blk");
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /^ringside: Cannot uninstall "blk": installed are rng, net\n$/);
    assert.equal(ringside(folder, "uninstall", "rng").status, 0);
    assert.deepEqual(remaining(folder), [
      "50-ringside-net.json",
      "installed.json",
      "vhost-user-net",
    ]);
    assert.equal(ringside(folder, "uninstall", "net").status, 0);
    assert.equal(existsSync(folder.at("here")), false);
  });

  it("refuses a record that it cannot understand", () => {
    using folder = new Folder();
    folder.write("here/libexec/ringside/installed.json", '{"files":{"/etc/passwd":1}}');
    const { status, stderr } = ringside(folder, "uninstall");
    assert.equal(status, 1);
    assert.match(stderr, /^ringside: Cannot read .*installed\.json: it is no record[^\n]*\n$/);
  });
});

describe("ringside install, again", () => {
  it("with another priority replaces the descriptor", () => {
    using folder = new Folder();
    ringside(folder, "install", "rng");
    const { lines } = ringside(folder, "install", "rng", "--priority=7");
    assert.ok(lines.includes(`Removed ${folder.at(descriptor)}`), lines.join("\n"));
    assert.deepEqual(remaining(folder), [
      "07-ringside-rng.json",
      "installed.json",
      "vhost-user-rng",
    ]);
    assert.equal(ringside(folder, "install", "--priority=100").status, 2);
  });
});
