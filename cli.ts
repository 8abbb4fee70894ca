/** `ringside <command>`: devices as programs, and what is done with them. */
import { runProgram } from "./conventions/program.ts";
import { devices } from "./devices/mod.ts";

/** A command gets its arguments and returns the exit status. */
type Command = (args: readonly string[]) => Promise<number>;

const commands: Readonly<Record<string, Command>> = {
  help: async (args) => {
    if (args[0] !== undefined && !(args[0] in commands)) return runDevice(args[0], ["--help"]);
    if (args[0] !== undefined && args[0] !== "help") return commands[args[0]]!(["--help"]);
    const { overview } = await import("./conventions/overview.ts");
    console.log(await overview());
    return 0;
  },
  conform: async (args) => (await import("./conventions/conform.ts")).runConform(args),
  desktop: async (args) => (await import("./conventions/desktop.ts")).runDesktop(args),
  install: async (args) => (await import("./conventions/install.ts")).runInstall(args),
  uninstall: async (args) => (await import("./conventions/uninstall.ts")).runUninstall(args),
};

async function printVersion(): Promise<number> {
  const { packageVersion } = await import("./conventions/version.ts");
  console.log(`ringside ${packageVersion()}`);
  return 0;
}

async function runDevice(name: string, args: readonly string[]): Promise<number> {
  const known = Object.hasOwn(devices, name) ? devices[name] : undefined;
  const load = known ?? (async () => (await import("./conventions/load.ts")).loadDevice(name));
  return runProgram(await load(), args);
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  try {
    if (name === undefined || name === "--help" || name === "-h") return await commands.help!([]);
    if (name === "--version") return await printVersion();
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    return await (command === undefined ? runDevice(name, args) : command(args));
  } catch (error) {
    const { reportFailure } = await import("./conventions/usage.ts");
    return reportFailure("ringside", error);
  }
}

process.exit(await main(process.argv.slice(2)));
