/**
 * `ringside install`: launchers that are one executable path, as libvirt needs them, and the
 * descriptors by which it finds them.
 */
import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { Type } from "typebox";
import { type AnyDevice, deviceName } from "../core/device.ts";
import { packageRoot } from "../core/package.ts";
import { devices } from "../devices/mod.ts";
import { runtime } from "../ffi/mod.ts";
import { checkDiscovery } from "./check.ts";
import { isDeviceType, writeDescriptor, writeWhole } from "./descriptor.ts";
import { discover, searchPath } from "./discovery.ts";
import { describeOptions, programName } from "./help.ts";
import { type Folders, foldersOf, prefixOption } from "./install-folders.ts";
import { InstallRecord } from "./install-record.ts";
import { compileProgram, embeddedLauncherText, launcherText } from "./launchers.ts";
import { loadDevice, moduleOf } from "./load.ts";
import { optionRows } from "./options.ts";
import { askCapabilities } from "./probe.ts";
import { removeFiles } from "./uninstall.ts";
import { ExitStatus, UsageError } from "./usage.ts";
import { readArguments } from "./values.ts";

const installOptions = Type.Object({
  prefix: prefixOption,
  priority: Type.Integer({
    default: 50,
    minimum: 0,
    maximum: 99,
    description:
      "Number that the descriptors' names begin with: libvirt takes the lowest of a type",
  }),
  runtime: Type.Optional(
    Type.Union([Type.Literal("bun"), Type.Literal("deno")], {
      description: "Runtime that the launchers prefer; the one that runs this when left out",
    }),
  ),
  compile: Type.Boolean({
    default: false,
    description:
      "Make a program of one file, with Bun in it, that needs neither this package nor Bun",
  }),
  check: Type.Boolean({
    default: false,
    description: "Install nothing; check all descriptors that libvirt reads, and say which win",
  }),
  help: Type.Boolean({ default: false, description: "Print this help and exit" }),
});

interface Settings extends Folders {
  readonly compile: boolean;
  readonly priority: number;
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

/** Writes files of one device after another. */
class Installation {
  readonly #record: InstallRecord;
  readonly #settings: Settings;
  #common: string | null = null;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#record = new InstallRecord(settings.launchers);
  }

  /** Installs a device. `target` is what a launcher names it by: a name, or the URL of a module. */
  async install(target: string, device: AnyDevice): Promise<void> {
    const name = deviceName(device);
    if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) {
      throw new Error(`Cannot install a device called "${name}": use a-z, 0-9 and - only`);
    }
    const written: string[] = [];
    try {
      await this.#write(name, target, device, written);
    } finally {
      removeFiles(this.#record, this.#record.add(name, written));
    }
  }

  async #write(name: string, target: string, device: AnyDevice, written: string[]): Promise<void> {
    const { launchers, descriptors, compile, priority } = this.#settings;
    const launcher = join(launchers, programName(device));
    this.#record.makeFolder(launchers);
    let text = launcherText(target);
    if (compile) {
      const program = await this.#compiled(name, target);
      written.push(program);
      text = embeddedLauncherText(program, name);
    }
    writeWhole(launcher, text, 0o755);
    written.push(launcher);
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
    const number = String(priority).padStart(2, "0");
    const descriptor = join(descriptors, `${number}-ringside-${name}.json`);
    this.#record.makeFolder(descriptors);
    writeDescriptor(descriptor, {
      description: device.summary,
      type,
      binary: launcher,
      tags: ["ringside"],
    });
    written.push(descriptor);
    console.log(`Wrote ${descriptor}`);
  }

  /** Makes the program that a launcher starts. Devices that come with Ringside share one. */
  async #compiled(name: string, target: string): Promise<string> {
    const builtIn = Object.hasOwn(devices, target);
    if (builtIn && this.#common !== null) return this.#common;
    const file = builtIn ? "devices.bin" : `vhost-user-${name}.bin`;
    const program = join(this.#settings.launchers, file);
    await compileProgram(program, builtIn ? {} : { [name]: target });
    console.log(`Wrote ${program}`);
    if (builtIn) this.#common = program;
    return program;
  }
}

/** Says what keeps libvirt from taking what was installed. */
function noteDiscovery({ descriptors }: Folders): void {
  const folders = searchPath();
  if (!folders.includes(descriptors)) {
    console.log(`Note: libvirt does not look into ${descriptors}, but into ${folders.join(", ")}`);
    return;
  }
  const { found, chosen } = discover(folders);
  if (found.some(({ error }) => error !== null)) {
    console.log("Note: libvirt finds no back-end at all: see ringside install --check");
  }
  const gpu = chosen.get("gpu");
  if (gpu !== undefined && !/^\d\d-ringside-/.test(gpu.name)) {
    console.log(`Note: of graphics cards libvirt prefers ${gpu.name}: --priority puts ours first`);
  }
}

function helpText(): string {
  return [
    "Usage: ringside install [DEVICE...] [OPTION...]\n       ringside install --check [--prefix=DIR]",
    "Makes devices known to libvirt: all that come with Ringside, or those that are named.",
    `Options:\n${describeOptions(optionRows(installOptions))}`,
  ].join("\n\n");
}

/** Does the same under another runtime, which then writes the launchers. Returns the exit status. */
function runUnder(name: string, args: readonly string[]): number {
  const env = { ...process.env, RINGSIDE_RUNTIME: name };
  const program = join(packageRoot, "bin", "ringside");
  const { status } = spawnSync(program, ["install", ...args], { stdio: "inherit", env });
  return status ?? ExitStatus.FAILED;
}

/** Runs `ringside install`. Returns the exit status. */
export async function runInstall(args: readonly string[]): Promise<number> {
  const { values, positionals } = await readArguments(optionRows(installOptions), args);
  if (values.help) {
    console.log(helpText());
    return ExitStatus.OK;
  }
  const prefix = values.prefix as string | undefined;
  if (values.check) {
    if (positionals.length > 0) throw new UsageError("Cannot check single devices: leave them out");
    return checkDiscovery(searchPath(prefix === undefined ? {} : { prefix: resolve(prefix) }));
  }
  const compile = values.compile as boolean;
  if (compile && values.runtime === "deno") {
    throw new UsageError("Cannot use --compile with --runtime=deno: only Bun makes such programs");
  }
  const wanted = compile ? "bun" : (values.runtime ?? runtime.name);
  if (wanted !== runtime.name) return runUnder(wanted as string, args);
  const folders = foldersOf(prefix);
  const priority = values.priority as number;
  const installation = new Installation({ ...folders, compile, priority });
  for (const name of positionals.length > 0 ? positionals : Object.keys(devices)) {
    await installation.install(moduleOf(name), await loadDevice(name));
  }
  noteDiscovery(folders);
  return ExitStatus.OK;
}
