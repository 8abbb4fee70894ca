/** The program of one file that `ringside install --compile` makes: some devices, by name. */
import type { AnyDevice } from "../core/device.ts";
import { devices as builtIn } from "../devices/mod.ts";
import { runProgram } from "./program.ts";
import { reportFailure, UsageError } from "./usage.ts";
import { embedVersion } from "./version.ts";

type Devices = Readonly<Record<string, () => Promise<AnyDevice>>>;

/** Runs the device that the first argument names, with the others. Returns the exit status. */
export async function runEmbedded(version: string, own: Devices): Promise<number> {
  embedVersion(version);
  const [name = "", ...args] = process.argv.slice(2);
  const devices = { ...builtIn, ...own };
  try {
    if (Object.hasOwn(devices, name)) return await runProgram(await devices[name]!(), args);
    throw new UsageError(`Unknown device "${name}": here are ${Object.keys(devices).join(", ")}`);
  } catch (error) {
    return reportFailure("ringside", error);
  }
}
