/** Screens saved as PNG files, on a signal and when the front-end leaves. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { it } from "node:test";
import { decode } from "fast-png";
import { GpuDriver } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program, until } from "../support/program.ts";
import { PIXEL, picture, Surface } from "./screen.ts";

/** The red, green and blue of a picture. */
function colours(bytes: Uint8Array): Uint8Array {
  const count = bytes.length / PIXEL;
  const result = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    result.set([bytes[4 * i + 2]!, bytes[4 * i + 1]!, bytes[4 * i]!], 3 * i);
  }
  return result;
}

it("screens are saved, one file each", () => {
  using folder = new Folder();
  const path = folder.at("screen.png");
  const other = folder.at("screen-2.png");
  using program = new Program(
    [launcher("vhost-user-gpu"), "--socket-path=SOCKET", `--screenshot=${path}`],
    { folder },
  );
  {
    using driver = GpuDriver.connect(program.socket);
    const surface = new Surface(driver, 1, 123, 45);
    surface.paint(picture(123, 45));
    surface.show();
    surface.setScanout();
    surface.setScanout(2, { x: 23, y: 5, width: 100, height: 40 });
    // Under Bun both signals do; under Deno the first one opens its debugger besides.
    program.signal("SIGUSR2");
    until(() => (existsSync(path) && existsSync(other) ? true : null), "both files");
    const { width, height, channels, data } = decode(readFileSync(path));
    assert.deepEqual([width, height, channels], [123, 45, 3]);
    assert.deepEqual(
      new Uint8Array(data.buffer, data.byteOffset, data.length),
      colours(picture(123, 45)),
    );
    const part = decode(readFileSync(other));
    assert.deepEqual([part.width, part.height], [100, 40]);
    const at = 3 * (5 * 123 + 23);
    assert.deepEqual([...part.data.slice(0, 3)], [...data.slice(at, at + 3)]);
    rmSync(path);
    rmSync(other);
  }
  until(() => (existsSync(path) && existsSync(other) ? true : null), "files of the last picture");
  rmSync(path);
  assert.ok(program.stop());
  assert.equal(existsSync(path), false, "nothing is shown any more");
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.endsWith(".part")),
    [],
  );
});

it("the screen is saved when the program is told to end", () => {
  using folder = new Folder();
  const path = folder.at("end.png");
  using program = new Program(
    [launcher("vhost-user-gpu"), "--socket-path=SOCKET", `--screenshot=${path}`],
    { folder },
  );
  using driver = GpuDriver.connect(program.socket);
  const surface = new Surface(driver, 1, 64, 32);
  surface.paint(picture(64, 32));
  surface.show();
  surface.setScanout();
  assert.ok(program.stop("SIGTERM"));
  assert.deepEqual([...decode(readFileSync(path)).data], [...colours(picture(64, 32))]);
});
