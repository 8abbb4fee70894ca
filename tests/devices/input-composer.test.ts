import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { keyCodes } from "../../devices/input/key-names.ts";
import { keymaps, strokesOf } from "../../devices/input/keymaps/mod.ts";
import { describeKind, kinds } from "../../devices/input/kinds.ts";
import { Composer, commandUsages, composeScript } from "../../devices/input/sources/composer.ts";

describe("the script language", () => {
  for (const [name, lines, line, reason] of [
    ["an unknown command", ["key a", "kye b"], 2, 'Unknown command "kye"'],
    ["a name of Object's", ["constructor x"], 1, 'Unknown command "constructor"'],
    ["an unknown key", ["key ctrl+foo"], 1, 'Unknown key "foo"'],
    ["an empty key", ["key ctrl+"], 1, 'Unknown key ""'],
    ["a command of another device", ["", "# x", "move 1 2"], 3, "the device is a keyboard"],
    ["a character that no key has", ['type "ab€"'], 1, 'Cannot type "€"'],
    ["text without quotes", ["type hello"], 1, "expected text in double quotes"],
    ["text that does not end", ['type "hello'], 1, "expected text in double quotes"],
    ["text followed by something", ['type "a" b'], 1, "expected text in double quotes"],
    ["too few words", ["wait"], 1, "expected wait TIME"],
    ["too many words", ["wait 1s 2s"], 1, "expected wait TIME"],
    ["a time without a unit", ["wait 100"], 1, 'Cannot use "100" as a time'],
    ["a time before now", ["wait -1s"], 1, 'Cannot use "-1s" as a time'],
    ["a time of weeks", ["wait 100000m"], 1, 'Cannot use "100000m" as a time'],
    ["a number that is none", ["event 1 x 1"], 1, 'Cannot use "x"'],
    ["a number out of range", ["event 1 1 2147483648"], 1, 'Cannot use "2147483648"'],
    ["lines of another system", ["key a\r", "nonsense\r"], 2, 'Unknown command "nonsense"'],
  ] as const) {
    it(`names the line with ${name}`, () => {
      const composer = new Composer("keyboard", keymaps.us);
      assert.throws(
        () => composeScript(composer, lines.join("\n")),
        ({ message }: Error) => message.startsWith(`line ${line}: `) && message.includes(reason),
      );
    });
  }

  it("is documented: each command is in its table, and the example is right", () => {
    const text = readFileSync(new URL("../../docs/input.md", import.meta.url), "utf8");
    const rows = text.split("\n").filter((line) => line.startsWith("| `"));
    for (const usage of commandUsages) {
      assert.ok(
        rows.some((row) => row.split("|")[1]!.includes(`\`${usage}\``)),
        usage,
      );
    }
    const [, example] = /```input\n([\s\S]*?)```/.exec(text)!;
    const steps = composeScript(new Composer("keyboard", keymaps.us), example!);
    assert.deepEqual(steps.at(-1), { echo: "looked around" });
  });

  it("refuses places beyond the screen, and contacts that are up", () => {
    const touch = new Composer("multitouch", keymaps.us);
    for (const line of ["touch 10 0 0", "touch 0 1.1 0", "touch 0 -1 0", "lift 3", "tap 0"]) {
      assert.throws(() => touch.compose(line), /^Error: Cannot/, line);
    }
    const mouse = new Composer("mouse", keymaps.us);
    assert.throws(() => mouse.compose("click up"), /Unknown button "up"/);
    assert.throws(() => mouse.compose("click left 0"), /from 1 to 100/);
  });

  it("pauses after each stroke once it has a pace", () => {
    const composer = new Composer("keyboard", keymaps.us);
    assert.equal(composer.compose('type "ab"').filter((step) => "wait" in step).length, 0);
    composer.compose("pace 5ms");
    const waits = composer.compose('type "aB"').filter((step) => "wait" in step);
    assert.deepEqual(waits, [{ wait: 5 }, { wait: 5 }]);
  });
});

describe("keymaps", () => {
  const ascii = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));

  it("of the United States and the United Kingdom have all of ASCII", () => {
    for (const keymap of [keymaps.us, keymaps.gb]) {
      const strokes = strokesOf(keymap);
      assert.deepEqual(
        ascii.filter((character) => !strokes.has(character)),
        [],
      );
    }
    assert.deepEqual(strokesOf(keymaps.gb).get("€"), [100, 5]);
  });

  it("of Germany has all but its dead keys", () => {
    const strokes = strokesOf(keymaps.de);
    assert.deepEqual(
      ascii.filter((character) => !strokes.has(character)),
      ["^", "`"],
    );
    assert.deepEqual(strokes.get("y"), [44]);
    assert.deepEqual(strokes.get("{"), [100, 8]);
  });

  it("press only keys that the keyboard has", () => {
    const codes = new Set(keyCodes.values());
    for (const keymap of Object.values(keymaps)) {
      for (const keys of strokesOf(keymap).values()) {
        assert.ok(keys.every((code) => codes.has(code)));
      }
    }
  });
});

describe("kinds", () => {
  it("have ranges for the axes that they have, and no others", () => {
    for (const kind of kinds) {
      const { codes, axes } = describeKind(kind);
      const bits = [...(codes.get(3) ?? [])].flatMap((byte, i) =>
        [...Array(8).keys()].filter((bit) => byte & (1 << bit)).map((bit) => i * 8 + bit),
      );
      assert.deepEqual(
        bits,
        [...axes.keys()].sort((a, b) => a - b),
      );
    }
  });
});
