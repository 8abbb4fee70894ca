/** The config space of `vhost-user-input`. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Abs, EventType } from "../../devices/input/mod.ts";
import {
  Frontend,
  InputConfigSpace,
  InputDriver,
  InputSelect,
  ringFeatures,
} from "../../frontend/mod.ts";
import { InputProgram } from "../support/input.ts";

const { KEY, ABS } = EventType;

describe("the config space of an input device", () => {
  let device: InputProgram;
  before(() => {
    device = new InputProgram("--kind=multitouch", `--name=${"é".repeat(63)}xy`, "--serial=42");
  });
  after(() => device[Symbol.dispose]());

  it("has the right answer to each of 65536 questions", () => {
    using driver = InputDriver.connect(device.socket, { features: ringFeatures });
    const axes = [Abs.X, Abs.Y, Abs.MT_SLOT, 0x35, 0x36, Abs.MT_TRACKING_ID];
    const sizes = new Map<number, number>([
      [InputSelect.NAME << 8, 128],
      [InputSelect.SERIAL << 8, 2],
      [InputSelect.IDS << 8, 8],
      [InputSelect.PROPERTIES << 8, 1],
      [(InputSelect.EVENT_BITS << 8) | KEY, 42],
      [(InputSelect.EVENT_BITS << 8) | ABS, 8],
      ...axes.map((axis): [number, number] => [(InputSelect.AXIS << 8) | axis, 20]),
    ]);
    for (let pair = 0; pair < 65_536; pair++) {
      const answer = driver.describe(pair >> 8, pair & 0xff);
      if (answer.length !== (sizes.get(pair) ?? 0)) {
        assert.fail(`${pair.toString(16)} is answered by ${answer.length} bytes`);
      }
    }
    for (const [pair, size] of sizes) {
      assert.equal(
        driver.describe(pair >> 8, pair & 0xff, true).length,
        size,
        "written as a whole",
      );
    }
    const range = new Int32Array(driver.describe(InputSelect.AXIS, Abs.MT_SLOT).slice().buffer);
    assert.deepEqual([...range], [0, 9, 0, 0, 0]);
  });

  it("cuts a long name where a character ends", () => {
    using driver = InputDriver.connect(device.socket);
    const name = new TextDecoder("utf-8", { fatal: true }).decode(driver.describe(1));
    assert.equal(name, `${"é".repeat(63)}xy`);
  });

  it("takes the choice out of any write, and leaves the rest as it is", () => {
    using driver = InputDriver.connect(device.socket);
    const { frontend } = driver;
    const { size, data } = InputConfigSpace;
    const read = () => frontend.getConfig(0, size)!;
    frontend.setConfig(0, new Uint8Array(size).fill(0xff));
    assert.deepEqual([...read().subarray(0, 8)], [0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    frontend.setConfig(1, Uint8Array.of(0));
    frontend.setConfig(0, Uint8Array.of(InputSelect.SERIAL));
    assert.deepEqual([...read().subarray(0, 3)], [InputSelect.SERIAL, 0, 2]);
    frontend.setConfig(2, new Uint8Array(size - 2).fill(7));
    assert.equal(new TextDecoder().decode(read().subarray(data, data + 2)), "42");
    assert.ok(
      read()
        .subarray(data + 2)
        .every((byte) => byte === 0),
    );
    assert.deepEqual(
      [...frontend.getConfig(data, 1)!],
      [..."4"].map((c) => c.charCodeAt(0)),
    );
  });

  it("begins with no choice for each front-end", () => {
    {
      using driver = InputDriver.connect(device.socket);
      driver.describe(InputSelect.NAME);
    }
    using frontend = Frontend.open(device.socket);
    assert.deepEqual(frontend.getConfig(0, 136)!, new Uint8Array(136));
  });
});
