/** RINGSIDE_LIBC: another library in the place of libc, for tests that must fake a system call. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EIO } from "../../ffi/mod.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";
import { startChild } from "./child.ts";

describe("RINGSIDE_LIBC", () => {
  it("replaces the calls that the library has and leaves the others to libc", {
    skip: compilerMissing() ?? false,
  }, async () => {
    const library = buildTool("tests/ffi/shim.c", { shared: true });
    const { code, stdout, stderr } = await startChild("shim-child.ts", { RINGSIDE_LIBC: library })
      .ended;
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), { result: -1, errno: EIO, size: 4096 });
  });

  it("is libc when it is empty", async () => {
    const { stdout } = await startChild("shim-child.ts", { RINGSIDE_LIBC: "" }).ended;
    assert.deepEqual(JSON.parse(stdout), { result: 0, errno: 0, size: 4096 });
  });

  it("that cannot be loaded is named in the error", async () => {
    const missing = "/nonexistent/libc.so";
    const { code, stderr } = await startChild("shim-child.ts", { RINGSIDE_LIBC: missing }).ended;
    assert.notEqual(code, 0);
    assert.match(stderr, /Cannot load the C library \/nonexistent\/libc\.so/);
  });
});
