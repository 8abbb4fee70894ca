/** Not a test file by its name: what runner.test.ts lets the runner count. */
import assert from "node:assert/strict";
import { describe, it, test } from "node:test";

test("passes", () => {});
test("fails", () => assert.equal(1, 2));
test("is skipped", { skip: "no such device" }, () => {});
test("is skipped silently", { skip: true }, () => {});
test("finds out late", (t) => t.skip("found out late"));
describe("outer", () => {
  it("passes", () => {});
  describe("inner", () => {
    it("fails", () => {
      throw new Error("inside");
    });
  });
});
describe("left out", { skip: "a whole group" }, () => {
  it("is not declared", () => {});
});
test("parent", async (t) => {
  await t.test("child passes", () => {});
  await t.test("child is skipped", { skip: "not here" }, () => {});
});
