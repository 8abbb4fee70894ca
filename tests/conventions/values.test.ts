import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Type } from "typebox";
import { splitArguments } from "../../conventions/args.ts";
import { closest, UsageError } from "../../conventions/usage.ts";
import { completeOptions, readCommandLine } from "../../conventions/values.ts";

const options = Type.Object({
  blkFile: Type.Optional(Type.String()),
  readOnly: Type.Boolean({ default: false }),
  grab: Type.Boolean({ default: true }),
  numQueues: Type.Integer({ default: 8, minimum: 1, maximum: 256 }),
  ratio: Type.Number({ default: 0.5, minimum: 0 }),
  cache: Type.Union([Type.Literal("writeback"), Type.Literal("writethrough")], {
    default: "writeback",
  }),
  blockSize: Type.Union([Type.Literal(512), Type.Literal(4096)], { default: 512 }),
  serial: Type.String({ default: "ringside", maxLength: 20 }),
  port: Type.Array(Type.String()),
});

const read = (...args: string[]) => readCommandLine(options, args);
const device = async (...args: string[]) => (await read(...args)).device;
const refuses = (args: string[], message: string) =>
  assert.rejects(read(...args), (error) => {
    assert.ok(error instanceof UsageError);
    assert.equal(error.message, message);
    return true;
  });

describe("splitArguments()", () => {
  it("tells options, values and other arguments apart", () => {
    const given = splitArguments(["--a=1", "--a", "2", "--b", "x", "--", "--c"], ["a"]);
    assert.deepEqual(given.options, [
      { name: "a", typed: "--a", value: "1", joined: true },
      { name: "a", typed: "--a", value: "2", joined: false },
      { name: "b", typed: "--b", value: undefined, joined: false },
    ]);
    assert.deepEqual(given.positionals, ["x", "--c"]);
  });
});

describe("readCommandLine()", () => {
  it("fills in defaults", async () => {
    assert.deepEqual(await device(), {
      readOnly: false,
      grab: true,
      numQueues: 8,
      ratio: 0.5,
      cache: "writeback",
      blockSize: 512,
      serial: "ringside",
      port: [],
    });
    const { common } = await read();
    assert.equal(common.logLevel, "info");
    assert.deepEqual(common.socketPath, []);
  });

  it("converts values to the types of the schema", async () => {
    const values = await device(
      "--blk-file=/a b",
      "--read-only",
      "--no-grab",
      "--num-queues",
      "4",
      "--ratio=1e-3",
      "--cache=writethrough",
      "--block-size=4096",
    );
    assert.equal(values.blkFile, "/a b");
    assert.equal(values.readOnly, true);
    assert.equal(values.grab, false);
    assert.equal(values.numQueues, 4);
    assert.equal(values.ratio, 0.001);
    assert.equal(values.cache, "writethrough");
    assert.equal(values.blockSize, 4096);
  });

  it("takes flags with a value, and repeated options", async () => {
    assert.equal((await device("--read-only=false")).readOnly, false);
    assert.equal((await device("--grab=false")).grab, false);
    assert.deepEqual((await device("--port=a", "--port=b")).port, ["a", "b"]);
  });

  it("keeps an empty value and one that contains an equals sign", async () => {
    assert.equal((await device("--serial=")).serial, "");
    assert.equal((await device("--blk-file=a=b")).blkFile, "a=b");
  });

  it("names the option, the value and what is allowed", async () => {
    const queues = "expected a whole number from 1 to 256";
    await refuses(["--num-queues=0"], `Cannot use --num-queues=0: ${queues}`);
    await refuses(["--num-queues=257"], `Cannot use --num-queues=257: ${queues}`);
    await refuses(["--num-queues=two"], `Cannot use --num-queues=two: ${queues}`);
    await refuses(["--num-queues=1.5"], `Cannot use --num-queues=1.5: ${queues}`);
    await refuses(["--num-queues=0x10"], `Cannot use --num-queues=0x10: ${queues}`);
    await refuses(["--num-queues="], `Cannot use --num-queues=: ${queues}`);
    await refuses(["--ratio=-1"], "Cannot use --ratio=-1: expected a number of at least 0");
    await refuses(["--cache=no"], "Cannot use --cache=no: expected writeback or writethrough");
    await refuses(["--block-size=513"], "Cannot use --block-size=513: expected 512 or 4096");
    await refuses(["--read-only=yes"], "Cannot use --read-only=yes: expected true or false");
    await refuses(
      ["--fd=99999999999"],
      "Cannot use --fd=99999999999: expected a whole number from 0 to 2147483647",
    );
  });

  it("leaves what only the schema says to typebox", async () => {
    const long = "x".repeat(21);
    await refuses(
      [`--serial=${long}`],
      `Cannot use --serial=${long}: must not have more than 20 characters`,
    );
    assert.equal((await device(`--serial=${long.slice(1)}`)).serial, long.slice(1));
    const several = Type.Object({ port: Type.Array(Type.String(), { minItems: 1 }) });
    await assert.rejects(readCommandLine(several, []), /Cannot use --port=/);
  });

  it("suggests what was probably meant", async () => {
    await refuses(["--blk-fiel=x"], "Unknown option --blk-fiel: did you mean --blk-file?");
    await refuses(["--socket=x"], "Unknown option --socket: did you mean --socket-path?");
    await refuses(["--frobnicate"], "Unknown option --frobnicate: see --help");
    await refuses(["-q"], "Unknown option -q: see --help");
  });

  it("misses values that are not there", async () => {
    await refuses(["--socket-path"], "Missing value: give --socket-path=PATH");
    await refuses(["--socket-path", "--fd=3"], "Missing value: give --socket-path=PATH");
    const needy = Type.Object({ blkFile: Type.String() });
    await assert.rejects(readCommandLine(needy, []), {
      message: "Missing option: give --blk-file=FILE",
    });
  });

  it("refuses other arguments and options given twice", async () => {
    await refuses(["disk.img"], 'Unexpected argument "disk.img": options begin with --');
    await refuses(["--fd=3", "--fd=4"], "Cannot use --fd twice");
  });

  it("does not share a default between two readings", async () => {
    const lists = Type.Object({ port: Type.Array(Type.String(), { default: ["a"] }) });
    const first = (await readCommandLine(lists, [])).device.port as string[];
    first.push("b");
    assert.deepEqual((await readCommandLine(lists, [])).device.port, ["a"]);
  });
});

describe("completeOptions()", () => {
  it("fills in defaults and passes values through", async () => {
    const values = await completeOptions(options, { numQueues: 2 });
    assert.equal(values.numQueues, 2);
    assert.equal(values.cache, "writeback");
    assert.deepEqual(values.port, []);
    assert.equal("blkFile" in values, false);
  });

  it("throws TypeError for what does not fit the schema", async () => {
    const cases: [Record<string, unknown>, RegExp][] = [
      [{ numQueues: 0 }, /Cannot use numQueues=0: expected a whole number from 1 to 256/],
      [{ numQueues: "2" }, /Cannot use numQueues=2: expected a whole number/],
      [{ serial: "x".repeat(21) }, /must not have more than 20 characters/],
      [{ port: [1] }, /Cannot use port=1/],
      [{ blockfile: "x" }, /Unknown option "blockfile"/],
    ];
    for (const [values, message] of cases) {
      await assert.rejects(completeOptions(options, values), { name: "TypeError", message });
    }
    const needy = Type.Object({ blkFile: Type.String() });
    await assert.rejects(completeOptions(needy, {}), /Missing option "blkFile"/);
  });
});

describe("closest()", () => {
  it("finds a word by a few edits or by its beginning, and nothing far-fetched", () => {
    const words = ["blk-file", "read-only", "num-queues", "blk"];
    assert.equal(closest("bkl", words), "blk");
    assert.equal(closest("readonly", words), "read-only");
    assert.equal(closest("num", words), "num-queues");
    assert.equal(closest("zzz", words), undefined);
    assert.equal(closest("x", []), undefined);
  });
});
