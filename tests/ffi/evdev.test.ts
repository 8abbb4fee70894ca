/** The numbers of evdev are those of the C library's headers. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { it } from "node:test";
import { keyCodes } from "../../devices/input/key-names.ts";
import { Abs, Button, codeCounts, EventType, Rel, Syn } from "../../devices/input/wire.ts";
import {
  EVIOCGABS,
  EVIOCGBIT,
  EVIOCGID,
  EVIOCGKEY,
  EVIOCGMTSLOTS,
  EVIOCGNAME,
  EVIOCGPROP,
  EVIOCGRAB,
  EVIOCGSW,
  EVIOCGUNIQ,
  INPUT_ABSINFO,
  INPUT_EVENT,
} from "../../ffi/mod.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";

it("the numbers of evdev are those of linux/input.h", { skip: compilerMissing() ?? false }, () => {
  const text = execFileSync(buildTool("tests/ffi/evdev.c"), { encoding: "utf8" });
  const headers = Object.fromEntries(
    text
      .trim()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([name, value]) => [name, Number(value)]),
  );
  assert.deepEqual(headers, {
    EVIOCGID,
    EVIOCGNAME: EVIOCGNAME(256),
    EVIOCGUNIQ: EVIOCGUNIQ(256),
    EVIOCGPROP: EVIOCGPROP(4),
    EVIOCGMTSLOTS: EVIOCGMTSLOTS(44),
    EVIOCGKEY: EVIOCGKEY(96),
    EVIOCGSW: EVIOCGSW(3),
    EVIOCGBIT: EVIOCGBIT(EventType.ABS, 8),
    EVIOCGABS: EVIOCGABS(Abs.MT_TRACKING_ID),
    EVIOCGRAB,
    event: INPUT_EVENT.size,
    "event.type": INPUT_EVENT.type,
    "event.code": INPUT_EVENT.code,
    "event.value": INPUT_EVENT.value,
    absinfo: INPUT_ABSINFO.size,
    "absinfo.maximum": INPUT_ABSINFO.maximum,
    "absinfo.resolution": INPUT_ABSINFO.resolution,
    "codes.key": codeCounts.get(EventType.KEY),
    "codes.abs": codeCounts.get(EventType.ABS),
    "codes.sw": codeCounts.get(EventType.SW),
    "key.f24": keyCodes.get("f24"),
    "key.compose": keyCodes.get("compose"),
    "key.volumeup": keyCodes.get("volumeup"),
    "key.kpdot": keyCodes.get("kpdot"),
    "button.left": Button.LEFT,
    "button.touch": Button.TOUCH,
    "abs.mt-last": Abs.MT_LAST,
    "rel.wheel": Rel.WHEEL,
    "type.rep": EventType.REP,
    "syn.dropped": Syn.DROPPED,
  });
});
