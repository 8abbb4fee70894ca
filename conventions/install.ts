/**
 * `ringside install`: launchers that are one executable path, as libvirt needs them, and the
 * descriptors by which it finds them.
 */
import { join, resolve } from "node:path";
import { Type } from "typebox";
import { type AnyDevice, deviceName } from "../core/device.ts";
import { packageRoot } from "../core/package.ts";
import { devices } from "../devices/mod.ts";
import { checkDiscovery } from "./check.ts";
import { isDeviceType, writeDescriptor, writeWhole } from "./descriptor.ts";
import { searchPath, userFolder } from "./discovery.ts";
import { describeOptions, programName } from "./help.ts";
import { loadDevice, moduleOf } from "./load.ts";
import { optionRows } from "./options.ts";
import { askCapabilities } from "./probe.ts";
import { ExitStatus, UsageError } from "./usage.ts";
import { readArguments } from "./values.ts";

const installOptions = Type.Object({
  prefix: Type.Optional(
    Type.String({
      placeholder: "DIR",
      description:
        "Write to DIR/libexec/ringside and DIR/share/qemu/vhost-user. Without it: for root " +
        "/usr/local/libexec/ringside and /etc/qemu/vhost-user, for others " +
        "~/.local/libexec/ringside and ~/.config/qemu/vhost-user",
    }),
  ),
  check: Type.Boolean({
    default: false,
    description: "Install nothing; check all descriptors that libvirt reads, and say which win",
  }),
  help: Type.Boolean({ default: false, description: "Print this help and exit" }),
});

/** Launchers and descriptors go here. */
interface Folders {
  readonly launchers: string;
  readonly descriptors: string;
}

/** Where libvirt looks decides: it knows /usr/share and /etc, but no /usr/local and no ~/.local. */
function foldersOf(prefix: string | undefined): Folders {
  if (prefix !== undefined) {
    const launchers = join(prefix, "libexec", "ringside");
    return { launchers, descriptors: join(prefix, "share", "qemu", "vhost-user") };
  }
  if (process.getuid?.() === 0) {
    return { launchers: "/usr/local/libexec/ringside", descriptors: "/etc/qemu/vhost-user" };
  }
  const home = process.env.HOME;
  if (!home) throw new Error("Cannot install without --prefix: HOME is not set");
  return {
    launchers: join(home, ".local", "libexec", "ringside"),
    descriptors: userFolder(),
  };
}

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A launcher's text. It prefers the runtime that installed it, which PATH may not have later. */
function launcherText(target: string): string {
  return `#!/bin/sh
# Written by "ringside install".
runtime=${quote(process.execPath)}
if [ -z "$RINGSIDE_RUNTIME" ] && [ -x "$runtime" ]; then
  RINGSIDE_RUNTIME=$runtime
  export RINGSIDE_RUNTIME
fi
exec ${quote(join(packageRoot, "bin", "ringside"))} ${quote(target)} "$@"
`;
}

/** Runs a launcher as libvirt does. */
function tryLauncher(path: string, device: AnyDevice): void {
  let reason: string;
  try {
    const { type } = askCapabilities(path);
    if (type === device.type) return;
    reason = `its type is ${JSON.stringify(type)}`;
  } catch (error) {
    reason = (error as Error).message;
  }
  throw new Error(`Cannot run the launcher ${path}: ${reason}`);
}

function installDevice(
  target: string,
  device: AnyDevice,
  { launchers, descriptors }: Folders,
): void {
  const name = deviceName(device);
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) {
    throw new Error(`Cannot install a device called "${name}": use a-z, 0-9 and - only`);
  }
  const launcher = join(launchers, programName(device));
  writeWhole(launcher, launcherText(target), 0o755);
  console.log(`Wrote ${launcher}`);
  tryLauncher(launcher, device);
  const { type } = device;
  if (!isDeviceType(type)) {
    console.log(
      `Wrote no descriptor: "${type}" is no type of vhost-user.json, ` +
        "and libvirt finds no back-end at all while one descriptor has an unknown type",
    );
    return;
  }
  const descriptor = join(descriptors, `50-ringside-${name}.json`);
  writeDescriptor(descriptor, {
    description: device.summary,
    type,
    binary: launcher,
    tags: ["ringside"],
  });
  console.log(`Wrote ${descriptor}`);
}

function helpText(): string {
  return [
    "Usage: ringside install [DEVICE...] [--prefix=DIR]\n       ringside install --check [--prefix=DIR]",
    "Makes devices known to libvirt: all that come with Ringside, or those that are named.",
    `Options:\n${describeOptions(optionRows(installOptions))}`,
  ].join("\n\n");
}

/** Runs `ringside install`. Returns the exit status. */
export async function runInstall(args: readonly string[]): Promise<number> {
  const { values, positionals } = await readArguments(optionRows(installOptions), args);
  if (values.help) {
    console.log(helpText());
    return ExitStatus.OK;
  }
  const prefix = values.prefix === undefined ? undefined : resolve(values.prefix as string);
  if (values.check) {
    if (positionals.length > 0) throw new UsageError("Cannot check single devices: leave them out");
    return checkDiscovery(searchPath(prefix === undefined ? {} : { prefix }));
  }
  const folders = foldersOf(prefix);
  for (const name of positionals.length > 0 ? positionals : Object.keys(devices)) {
    installDevice(moduleOf(name), await loadDevice(name), folders);
  }
  if (!searchPath().includes(folders.descriptors)) {
    console.log(
      `Note: libvirt does not look into ${folders.descriptors}, but into ${searchPath().join(", ")}`,
    );
  }
  return ExitStatus.OK;
}
