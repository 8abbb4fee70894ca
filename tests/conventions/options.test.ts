import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type TSchema, Type } from "typebox";
import { commonOptions, optionName, optionRows, programRows } from "../../conventions/options.ts";

const rowOf = (schema: TSchema) => optionRows(Type.Object({ someThing: schema }))[0]!;

describe("optionName()", () => {
  it("writes a property as it stands on the command line", () => {
    assert.equal(optionName("blkFile"), "blk-file");
    assert.equal(optionName("fd"), "fd");
    assert.equal(optionName("noGrab"), "no-grab");
    assert.equal(optionName("logicalBlockSize"), "logical-block-size");
  });
});

describe("optionRows()", () => {
  it("knows the types of typebox that make options", () => {
    assert.equal(rowOf(Type.String()).kind, "text");
    assert.equal(rowOf(Type.Boolean()).kind, "flag");
    assert.equal(rowOf(Type.Integer()).kind, "integer");
    assert.equal(rowOf(Type.Number()).kind, "number");
    assert.equal(rowOf(Type.Literal("one")).kind, "choice");
    const choice = rowOf(Type.Union([Type.Literal(512), Type.Literal(4096)]));
    assert.deepEqual(choice.choices, [512, 4096]);
    assert.equal(choice.placeholder, "512|4096");
    assert.deepEqual(rowOf(Type.Enum(["a", "b"])).choices, ["a", "b"]);
  });

  it("makes a repeatable option of an array", () => {
    const row = rowOf(Type.Array(Type.Integer({ minimum: 1 }), { description: "Several" }));
    assert.equal(row.repeated, true);
    assert.equal(row.kind, "integer");
    assert.equal(row.minimum, 1);
    assert.equal(row.description, "Several");
    assert.equal(row.required, false);
  });

  it("requires what has neither a default nor Type.Optional, except flags", () => {
    assert.equal(rowOf(Type.String()).required, true);
    assert.equal(rowOf(Type.String({ default: "x" })).required, false);
    assert.equal(rowOf(Type.Optional(Type.String())).required, false);
    assert.equal(rowOf(Type.Boolean()).required, false);
    assert.equal(rowOf(Type.Boolean()).default, false);
    assert.equal(rowOf(Type.Optional(Type.Boolean())).default, undefined);
  });

  it("marks rows whose schema says more than the row does", () => {
    assert.equal(rowOf(Type.Integer({ minimum: 1, maximum: 2 })).constrained, false);
    assert.equal(rowOf(Type.String({ maxLength: 20 })).constrained, true);
    assert.equal(rowOf(Type.Integer({ multipleOf: 4 })).constrained, true);
    assert.equal(rowOf(Type.Array(Type.String({ pattern: "^x" }))).constrained, true);
  });

  it("names the placeholder after the last word of an option", () => {
    assert.equal(rowOf(Type.String()).placeholder, "THING");
    assert.equal(rowOf(Type.Integer()).placeholder, "N");
    assert.equal(rowOf(Type.String({ placeholder: "HOST:PORT" })).placeholder, "HOST:PORT");
  });

  it("throws for a type that cannot be typed on a command line", () => {
    for (const schema of [Type.Object({}), Type.Null(), Type.Array(Type.Boolean())]) {
      assert.throws(() => rowOf(schema), /Cannot make an option of "someThing"/);
    }
    const mixed = Type.Union([Type.Literal("a"), Type.String()]);
    assert.throws(() => rowOf(mixed), TypeError);
  });
});

describe("programRows()", () => {
  it("has the options of the conventions", () => {
    const names = programRows(Type.Object({})).common.map(({ name }) => name);
    for (const name of ["socket-path", "fd", "print-capabilities", "help", "version"]) {
      assert.ok(names.includes(name), name);
    }
    assert.deepEqual(Object.keys(commonOptions.properties).map(optionName), names);
  });

  it("throws when a device's option hides a common one", () => {
    const clash = Type.Object({ logLevel: Type.String() });
    assert.throws(() => programRows(clash), /"logLevel": --log-level exists already/);
  });
});
