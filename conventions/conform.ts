/** `ringside conform`: finds out what a vhost-user back-end, anybody's, does right and wrong. */
import { Type } from "typebox";
import {
  type Check,
  checkLine,
  checks,
  checksOf,
  type DeviceKind,
  deviceKinds,
  groupOf,
  jsonReport,
  junitReport,
  kindOf,
  listText,
  type Offer,
  probe,
  type Result,
  runChecks,
  summary,
  Target,
  tapHeader,
  tapLine,
} from "../frontend/conform/mod.ts";
import { describeOptions } from "./help.ts";
import { optionRows } from "./options.ts";
import { ExitStatus, UsageError } from "./usage.ts";
import { readArguments } from "./values.ts";

const conformOptions = Type.Object({
  socketPath: Type.Optional(
    Type.String({ description: "Test the back-end that listens on this Unix socket" }),
  ),
  exec: Type.Optional(
    Type.String({
      placeholder: "COMMAND",
      description:
        "Start the back-end with this shell command, in which {socket} stands for the path to " +
        "listen on; the process is then looked at as well, and started again when it ends",
    }),
  ),
  device: Type.Optional(
    Type.Union(
      deviceKinds.map((kind) => Type.Literal(kind)),
      {
        description:
          "What the device is, to make requests; by default what GET_BACKEND_SPECS says, where that " +
          "is served. A disk's first 32 KiB are overwritten",
      },
    ),
  ),
  only: Type.Optional(
    Type.String({ placeholder: "ID,...", description: "Run these checks; * stands for anything" }),
  ),
  group: Type.Optional(
    Type.String({ placeholder: "NAME,...", description: "Run the checks of these groups" }),
  ),
  list: Type.Boolean({ default: false, description: "Name the checks and run none" }),
  format: Type.Union(
    (["text", "tap", "junit", "json"] as const).map((word) => Type.Literal(word)),
    { default: "text", description: "Form of the report on stdout" },
  ),
  json: Type.Boolean({ default: false, description: "The same as --format=json" }),
  timeout: Type.Integer({
    default: 3000,
    minimum: 50,
    maximum: 600_000,
    description: "How long the back-end may take for each answer, in milliseconds",
  }),
  help: Type.Boolean({ default: false, description: "Print this help and exit" }),
});

type Format = "text" | "tap" | "junit" | "json";

function helpText(): string {
  return [
    "Usage: ringside conform --socket-path=PATH [--device=KIND] [OPTION...]\n" +
      "       ringside conform --exec='PROGRAM --socket-path={socket} ...' [OPTION...]\n" +
      "       ringside conform --list",
    "Tests a vhost-user back-end. The status is 0 when no check fails, 1 when one does.",
    `Options:\n${describeOptions(optionRows(conformOptions))}`,
  ].join("\n\n");
}

function pattern(text: string): RegExp {
  const parts = text.split("*").map((part) => part.replace(/[^\w-]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

/** The checks that were asked for. Throws `UsageError` for a word that names none. */
function choose(only: string | undefined, group: string | undefined): readonly Check[] {
  const words = (text: string | undefined) => text?.split(",").filter((word) => word !== "");
  const [ids, groups] = [words(only), words(group)];
  for (const id of ids ?? []) {
    if (!checks.some((check) => pattern(id).test(check.id))) {
      throw new UsageError(`There is no check "${id}": see --list`);
    }
  }
  const known = [...new Set(checks.map(({ id }) => groupOf(id)))];
  for (const name of groups ?? []) {
    if (!known.includes(name)) {
      throw new UsageError(`There is no group "${name}": there are ${known.join(", ")}`);
    }
  }
  return checks.filter(
    ({ id }) =>
      (ids === undefined || ids.some((word) => pattern(word).test(id))) &&
      (groups === undefined || groups.includes(groupOf(id))),
  );
}

/** Shows on a terminal which check is running. */
function progress(check: Check, index: number, count: number): void {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\x1b[K[${index + 1}/${count}] ${check.id}\r`);
  }
}

function print(text: string): void {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  console.log(text);
}

/** Those of the chosen checks that are about a device. Throws `UsageError` when there are none. */
function applicable(chosen: readonly Check[], device: DeviceKind | null): readonly Check[] {
  const known = new Set(checksOf(device));
  const left = chosen.filter((check) => known.has(check));
  if (left.length > 0) return left;
  throw new UsageError("No check for this device is in --only and in --group");
}

async function report(
  target: Target,
  offer: Offer,
  device: DeviceKind | null,
  chosen: readonly Check[],
  format: Format,
): Promise<readonly Result[]> {
  const width = Math.max(...chosen.map(({ id }) => id.length));
  const color = process.stdout.isTTY === true && !process.env.NO_COLOR;
  let number = 0;
  if (format === "tap") print(tapHeader(chosen.length));
  const results = await runChecks(target, offer, {
    device,
    checks: chosen,
    started: (check, index) => progress(check, index, chosen.length),
    finished(result) {
      if (format === "text") print(checkLine(result, width, color));
      if (format === "tap") print(tapLine(result, ++number));
    },
  });
  if (format === "text") print(`\n${summary(results)}`);
  if (format === "junit") print(junitReport(results));
  if (format === "json") print(jsonReport({ device, offer }, results));
  return results;
}

/** Runs `ringside conform`. Returns the exit status. */
export async function runConform(args: readonly string[]): Promise<number> {
  const { values, positionals } = await readArguments(optionRows(conformOptions), args);
  const { socketPath, exec, device, only, group, list, json, timeout, help } = values;
  if (help) {
    console.log(helpText());
    return ExitStatus.OK;
  }
  if (positionals.length > 0) throw new UsageError(`Unexpected argument "${positionals[0]}"`);
  const named = (device as DeviceKind) ?? null;
  const chosen = choose(only as string | undefined, group as string | undefined);
  if (list) {
    console.log(listText(named === null ? chosen : applicable(chosen, named)));
    return ExitStatus.OK;
  }
  if ((socketPath === undefined) === (exec === undefined)) {
    throw new UsageError("Give either --socket-path=PATH or --exec=COMMAND");
  }
  if (typeof exec === "string" && !exec.includes("{socket}")) {
    throw new UsageError(`Cannot use --exec="${exec}": it must hold {socket}`);
  }
  const options = { timeout: timeout as number };
  using target =
    typeof exec === "string"
      ? Target.exec(exec, options)
      : Target.at(socketPath as string, options);
  const format = json ? "json" : (values.format as Format);
  const offer = probe(target);
  const kind = named ?? (offer.specs === null ? null : kindOf(offer.specs));
  const results = await report(target, offer, kind, applicable(chosen, kind), format);
  const failures = results.filter(({ outcome }) => outcome === "fail").length;
  return failures === 0 ? ExitStatus.OK : ExitStatus.FAILED;
}
