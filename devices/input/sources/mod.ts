/** The options that choose a source, and the source that they choose. */
import { type Static, type TObject, Type } from "typebox";
import type { Host } from "../../../core/device.ts";
import type { Source } from "../source.ts";

export const sourceOptions = {
  evdevPath: Type.Optional(
    Type.String({ description: "An input device of the host, as /dev/input/event3" }),
  ),
  noGrab: Type.Boolean({
    default: false,
    description: "Leave the host's device to the host as well",
  }),
  wait: Type.Boolean({
    default: false,
    description: "Wait for a device that is not there, and again when it is unplugged",
  }),
  script: Type.Optional(
    Type.String({
      placeholder: "FILE",
      description: "Play these commands when the driver is there; - is standard input",
    }),
  ),
  listen: Type.Optional(
    Type.String({
      placeholder: "PATH",
      description: "Take commands from programs that connect to this Unix socket",
    }),
  ),
  kind: Type.Optional(
    Type.Union(
      [
        Type.Literal("keyboard"),
        Type.Literal("mouse"),
        Type.Literal("tablet"),
        Type.Literal("multitouch"),
      ],
      { description: "What commands play; a keyboard when left out" },
    ),
  ),
  keymap: Type.Union([Type.Literal("us"), Type.Literal("gb"), Type.Literal("de")], {
    default: "us",
    description: "Layout that the guest has, for typing text",
  }),
  name: Type.Optional(Type.String({ maxLength: 128, description: "Name of the device" })),
  serial: Type.Optional(
    Type.String({ maxLength: 128, description: "Serial number of the device" }),
  ),
};

type Options = Static<TObject<typeof sourceOptions>>;

/** Opens what the options name. Throws `Error` when that is nothing, or does not go together. */
export async function openSource(options: Options, host: Host<any>): Promise<Source> {
  const { evdevPath, noGrab, wait, script, listen, name, serial } = options;
  if (evdevPath === undefined) {
    if (script === undefined && listen === undefined) {
      throw new Error("Cannot open an input device: give --evdev-path, --script or --listen");
    }
    if (noGrab || wait) {
      const option = wait ? "--wait" : "--no-grab";
      throw new Error(`Cannot use ${option} without --evdev-path`);
    }
    const { ScriptedSource } = await import("./scripted.ts");
    return new ScriptedSource({ ...options, kind: options.kind ?? "keyboard" }, host);
  }
  const others = { script, listen, kind: options.kind };
  for (const [option, value] of Object.entries(others)) {
    if (value === undefined) continue;
    throw new Error(`Cannot use --${option} together with --evdev-path`);
  }
  const { openEvdev } = await import("./evdev.ts");
  return openEvdev({ path: evdevPath, grab: !noGrab, wait, name, serial }, host);
}
