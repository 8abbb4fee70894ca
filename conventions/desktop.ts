/** `ringside desktop`: a graphics card, a keyboard and a tablet in one program, used from a browser. */
import { join } from "node:path";
import { Type } from "typebox";
import { makeDesktop } from "../devices/desktop/mod.ts";
import { gpuOptions } from "../devices/gpu/mod.ts";
import { describeOptions } from "./help.ts";
import { commonOptions, optionRows } from "./options.ts";
import { openLog, serveUntilSignal } from "./program.ts";
import type { Part } from "./serve.ts";
import { ExitStatus, UsageError } from "./usage.ts";
import { type CommonValues, readArguments } from "./values.ts";

const NAME = "ringside desktop";

const { web: _, ...cardOptions } = gpuOptions.properties;
const { socketPath, fd, printCapabilities, pollUs, version, ...others } = commonOptions.properties;
/** What the programs of single devices have, and this one has not. */
const none = { socketPath: [], printCapabilities: false, pollUs: 0, version: false };

const own = Type.Object({
  sockets: Type.String({
    default: ".",
    placeholder: "FOLDER",
    description: "Listen on gpu.sock, keyboard.sock and tablet.sock in this folder",
  }),
  web: Type.String({
    default: "0",
    placeholder: "[HOST:]PORT",
    description: "Serve the page at this address; with port 0 at any that is free",
  }),
  ...cardOptions,
});
const rows = optionRows(own);
const commonRows = optionRows(Type.Object(others));

function helpText(): string {
  return [
    `Usage: ${NAME} [--sockets=FOLDER] [--web=[HOST:]PORT] [OPTION...]`,
    "Serves a graphics card, a keyboard and a tablet, and a page that shows and plays them.",
    `Options:\n${describeOptions(rows)}`,
    `Common options:\n${describeOptions(commonRows)}`,
  ].join("\n\n");
}

/** Runs `ringside desktop`. Returns the exit status. */
export async function runDesktop(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(helpText());
    return ExitStatus.OK;
  }
  const { values, positionals } = await readArguments([...rows, ...commonRows], args);
  if (positionals.length > 0) {
    throw new UsageError(`Unexpected argument "${positionals[0]}": options begin with --`);
  }
  const at = (name: string) => [{ socketPath: join(values.sockets as string, `${name}.sock`) }];
  const { gpu, keyboard, tablet } = makeDesktop();
  const parts: Part[] = [
    { device: gpu, options: values, endpoints: at("gpu") },
    { device: keyboard, options: {}, endpoints: at("keyboard") },
    { device: tablet, options: {}, endpoints: at("tablet") },
  ];
  const common = { ...none, ...values } as unknown as CommonValues;
  await serveUntilSignal(parts, common, await openLog(NAME, common));
  return ExitStatus.OK;
}
