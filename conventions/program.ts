/**
 * The life of a back-end program (vhost-user, "Backend program conventions"): it does not
 * daemonize, fails early with a status other than 0, and ends on SIGTERM.
 */
import type { AnyDevice } from "../core/device.ts";
import type { Log } from "../core/log.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { programName } from "./help.ts";
import type { Endpoint, Part } from "./serve.ts";
import { ExitStatus, reportFailure, UsageError } from "./usage.ts";
import type { CommonValues } from "./values.ts";

function endpointsOf(device: AnyDevice, { socketPath, fd }: CommonValues): Endpoint[] {
  if (socketPath.length > 0 && fd !== undefined) {
    throw new UsageError("Cannot use --socket-path together with --fd");
  }
  if (socketPath.length > 1 && device.openMany === undefined) {
    throw new UsageError("Cannot use --socket-path twice");
  }
  if (socketPath.length > 0) return socketPath.map((path) => ({ socketPath: path }));
  if (fd !== undefined) return [{ fd }];
  throw new UsageError("Missing option: give --socket-path=PATH or --fd=FDNUM");
}

/** The log of a program, on stderr. */
export async function openLog(
  program: string,
  { logLevel, logFormat }: CommonValues,
): Promise<Log> {
  const [{ Log }, { logSink }] = await Promise.all([
    import("../core/log.ts"),
    import("./log-sink.ts"),
  ]);
  return new Log(logSink(program, logFormat), logLevel);
}

/** An error with its stack, in one line. */
function stackOf(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return text.replace(/\s*\n\s*/g, " | ");
}

/** A device's mistake in a promise or a timer is not a reason to take the disk from the guest. */
function surviveStrayErrors(log: Log): void {
  const report = (error: unknown): void => {
    log.error(`The device failed outside of a request: ${stackOf(error)}`);
  };
  process.on("unhandledRejection", report);
  process.on("uncaughtException", report);
}

/** Serves devices until a signal ends the program. `log` is theirs. */
export async function serveUntilSignal(
  parts: readonly Part[],
  common: CommonValues,
  log: Log,
): Promise<void> {
  const { runParts } = await import("./serve.ts");
  const end = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => end.abort());
  // Without this, SIGHUP would end the process while the device is being opened.
  let reload = (): void => {};
  process.on("SIGHUP", () => reload());
  await runParts(parts, {
    log,
    without: common.without,
    signal: end.signal,
    iommu: common.iommu,
    ringReset: common.ringReset,
    postcopy: common.postcopy,
    pollUs: common.pollUs,
    drafts: common.draft,
    ready(backends) {
      surviveStrayErrors(log);
      reload = () => {
        for (const backend of backends) backend.reload();
      };
    },
  });
}

/** Tries what `--print-capabilities` of another process wants to know. Returns the exit status. */
async function runProbe(device: AnyDevice, name: string): Promise<number> {
  const probe = device.probes?.[name];
  if (probe === undefined) return ExitStatus.USAGE;
  try {
    await probe.attempt();
    return ExitStatus.OK;
  } catch (error) {
    return reportFailure(programName(device), error);
  }
}

/** Runs a device as a program. Returns the exit status. */
export async function runProgram(device: AnyDevice, args: readonly string[]): Promise<number> {
  // Wins over everything else, mistakes included, and opens nothing.
  if (args.includes("--print-capabilities")) {
    const probes = Object.entries(device.probes ?? {});
    const likely = probes.filter(([, probe]) => probe.likely()).map(([name]) => name);
    const attempt = likely.length > 0 ? (await import("./attempt.ts")).attemptElsewhere : null;
    const works = (name: string) => likely.includes(name) && attempt!(name);
    console.log(JSON.stringify(capabilitiesOf(device, works)));
    return ExitStatus.OK;
  }
  const [, probe] = /^--probe=(.+)$/.exec(args[0] ?? "") ?? [];
  if (probe !== undefined) return runProbe(device, probe);
  const program = programName(device);
  let log: Log | null = null;
  try {
    if (args.includes("--help") || args.includes("-h")) {
      const { helpText } = await import("./help.ts");
      console.log(helpText(device));
      return ExitStatus.OK;
    }
    if (args.includes("--version")) {
      const { packageVersion } = await import("./version.ts");
      console.log(`${program} ${packageVersion()}`);
      return ExitStatus.OK;
    }
    const { readCommandLine } = await import("./values.ts");
    const commandLine = await readCommandLine(device.options, args);
    log = await openLog(program, commandLine.common);
    const { common, device: options } = commandLine;
    const endpoints = endpointsOf(device, common);
    await serveUntilSignal([{ device, options, endpoints }], common, log);
    return ExitStatus.OK;
  } catch (error) {
    if (log?.enabled("debug")) log.debug(stackOf(error));
    return reportFailure(program, error);
  }
}
