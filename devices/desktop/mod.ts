/** A screen with keyboard and tablet: three devices, and a page in browsers that plays all of them. */
import { Type } from "typebox";
import type { AnyDevice } from "../../core/device.ts";
import { gpuDevice, type ViewerInput } from "../gpu/mod.ts";
import { browserKeys } from "../input/browser-keys.ts";
import { inputDevice } from "../input/mod.ts";
import { LiveSource } from "../input/sources/live.ts";
import { Button } from "../input/wire.ts";

/** By `PointerEvent.button`. */
const buttons = [Button.LEFT, Button.MIDDLE, Button.RIGHT, Button.SIDE, Button.EXTRA];

/** An input device without options, whose events come from `source`. */
function played(name: string, summary: string, source: LiveSource): AnyDevice {
  return inputDevice({ name, summary, options: Type.Object({}), open: () => source });
}

/** The devices of one desktop. The card takes the options of `vhost-user-gpu`, the others none. */
export interface Desktop {
  readonly gpu: AnyDevice;
  readonly keyboard: AnyDevice;
  readonly tablet: AnyDevice;
}

/** Makes the devices of one desktop, each to be opened once, in one loop. */
export function makeDesktop(): Desktop {
  const keyboard = new LiveSource("keyboard");
  const tablet = new LiveSource("tablet");
  const input: ViewerInput = {
    key(code, down) {
      const key = browserKeys.get(code);
      if (key !== undefined) keyboard.press(key, down);
    },
    button: (button, down) => tablet.press(buttons[button]!, down),
    moveTo: (_output, x, y) => tablet.moveTo(x, y),
    wheel: (up, right) => tablet.turn(up, right),
  };
  return {
    gpu: gpuDevice(input),
    keyboard: played("keyboard", "Keyboard of a desktop", keyboard),
    tablet: played("tablet", "Tablet of a desktop", tablet),
  };
}
