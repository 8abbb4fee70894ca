/** `ringside help`. */
import { devices } from "../devices/mod.ts";

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows.map(([name, text]) => `  ${name.padEnd(width)}${text}`).join("\n");
}

/** The help text of `ringside` itself. */
export async function overview(): Promise<string> {
  const builtIn = await Promise.all(
    Object.entries(devices).map(async ([name, load]) => [name, (await load()).summary] as const),
  );
  const others = [
    ["./my-device.ts", "A device of your own: a module whose default export is one"],
    ["PACKAGE", "A device from an installed package"],
  ] as const;
  const commands = [
    ["conform", "Test a vhost-user back-end, whoever made it"],
    ["desktop", "Serve a screen, a keyboard and a tablet, used from a browser"],
    ["install", "Make devices known to libvirt, or check what it finds"],
    ["uninstall", "Take back what install wrote"],
    ["help [DEVICE]", "Print this, or the options of a device"],
    ["--version", "Print the version"],
  ] as const;
  return [
    "Usage: ringside DEVICE --socket-path=PATH [OPTION...]\n       ringside COMMAND [ARGUMENT...]",
    "Serves virtio devices to virtual machines over vhost-user.",
    `Devices:\n${table([...builtIn, ...others])}`,
    `Commands:\n${table(commands)}`,
  ].join("\n\n");
}
