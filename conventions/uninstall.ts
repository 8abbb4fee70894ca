/** `ringside uninstall`: takes back what `ringside install` wrote. */
import { Type } from "typebox";
import { describeOptions } from "./help.ts";
import { foldersOf, prefixOption } from "./install-folders.ts";
import { InstallRecord } from "./install-record.ts";
import { optionRows } from "./options.ts";
import { ExitStatus, UsageError } from "./usage.ts";
import { readArguments } from "./values.ts";

const uninstallOptions = Type.Object({
  prefix: prefixOption,
  help: Type.Boolean({ default: false, description: "Print this help and exit" }),
});

const sentences = {
  Removed: (path: string) => `Removed ${path}`,
  Kept: (path: string) => `Kept ${path}: it was changed since it was installed`,
  Missing: (path: string) => `Missing already: ${path}`,
};

/** Removes files, unless another device has them too or somebody changed them, and says so. */
export function removeFiles(record: InstallRecord, paths: readonly string[]): void {
  for (const path of paths) {
    const fate = record.remove(path);
    if (fate !== null) console.log(sentences[fate](path));
  }
}

function helpText(): string {
  return [
    "Usage: ringside uninstall [DEVICE...] [--prefix=DIR]",
    "Removes what ringside install wrote: all of it, or what belongs to the devices that are named.",
    `Options:\n${describeOptions(optionRows(uninstallOptions))}`,
  ].join("\n\n");
}

/** Runs `ringside uninstall`. Returns the exit status. */
export async function runUninstall(args: readonly string[]): Promise<number> {
  const { values, positionals } = await readArguments(optionRows(uninstallOptions), args);
  if (values.help) {
    console.log(helpText());
    return ExitStatus.OK;
  }
  const { launchers } = foldersOf(values.prefix as string | undefined);
  const record = new InstallRecord(launchers);
  const installed = record.devices;
  const stranger = positionals.find((name) => !installed.includes(name));
  if (installed.length === 0) {
    console.log(`Nothing is installed in ${launchers}`);
    return ExitStatus.OK;
  }
  if (stranger !== undefined) {
    const names = installed.join(", ");
    throw new UsageError(`Cannot uninstall "${stranger}": installed are ${names}`);
  }
  const names = positionals.length > 0 ? positionals : installed;
  removeFiles(
    record,
    names.flatMap((name) => record.forget(name)),
  );
  for (const folder of record.close()) console.log(`Removed ${folder}`);
  return ExitStatus.OK;
}
