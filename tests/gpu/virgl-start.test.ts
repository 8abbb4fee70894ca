/** What a host must have for 3D, and what is said where it is not there. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, symlinkSync } from "node:fs";
import { describe, it } from "node:test";
import { launch } from "../conventions/run.ts";
import { Folder } from "../support/folder.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";
import { noRenderer } from "./virgl.ts";

const LIBRARY = "libvirglrenderer.so.1";

const noNodes = !existsSync("/dev/dri") || readdirSync("/dev/dri").length === 0;

type Environment = Readonly<Record<string, string>>;

function featuresOf(env: Environment): readonly string[] {
  const { status, stdout, stderr } = launch("vhost-user-gpu", ["--print-capabilities"], { env });
  assert.deepEqual([status, stderr], [0, ""]);
  return JSON.parse(stdout).features;
}

/** Starts the card. Returns its only line, after checking that there is no other and that it failed. */
function failureOf(env: Environment, ...options: string[]): string {
  using folder = new Folder();
  const socket = `--socket-path=${folder.at("socket")}`;
  const { status, stderr } = launch("vhost-user-gpu", [socket, ...options], { env });
  assert.equal(status, 1, stderr);
  assert.match(stderr, /^vhost-user-gpu: [^\n]+\n$/);
  return stderr;
}

describe("3D", () => {
  it("is a capability where it works", { skip: noRenderer }, () => {
    const features = featuresOf({});
    assert.ok(features.includes("virgl"), features.join());
    if (noNodes) assert.ok(!features.includes("render-node"));
  });

  it("without its library is none, and a failure at the start", () => {
    using folder = new Folder();
    folder.write(LIBRARY, "no library");
    const env = { LD_LIBRARY_PATH: folder.path };
    assert.deepEqual(featuresOf(env), []);
    assert.match(failureOf(env, "--virgl"), /Cannot load the renderer libvirglrenderer\.so\.1/);
  });

  describe("with a renderer that does not start", { skip: compilerMissing() ?? false }, () => {
    function withBroken(act: (env: Environment) => void): void {
      using folder = new Folder();
      symlinkSync(buildTool("tests/gpu/renderer.c", { shared: true }), folder.at(LIBRARY));
      act({ LD_LIBRARY_PATH: folder.path });
    }

    it("is none, and a failure at the start", () => {
      withBroken((env) => {
        assert.deepEqual(featuresOf(env), []);
        assert.match(failureOf(env, "--virgl"), /Cannot start the renderer in software/);
      });
    });

    it("is none when it crashes, or never ends: the answer comes all the same", () => {
      withBroken((env) => {
        assert.deepEqual(featuresOf({ ...env, TEST_RENDERER: "abort" }), []);
        assert.deepEqual(featuresOf({ ...env, TEST_RENDERER: "hang" }), []);
      });
    });
  });

  it("wants a render node that is one, and --virgl with it", { skip: noRenderer }, () => {
    const absent = failureOf({}, "--virgl", "--render-node=/nonexistent/renderD128");
    assert.match(absent, /"\/nonexistent\/renderD128"/);
    const other = failureOf({}, "--virgl", "--render-node=/dev/null");
    assert.match(other, /Cannot render on "\/dev\/null": it is no DRM device/);
    assert.match(failureOf({}, "--render-node=/dev/dri/renderD128"), /without --virgl/);
  });
});
