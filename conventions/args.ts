/**
 * The seam to the argument parser: `node:util` here, `@std/cli` where JSR can be reached. Nothing
 * else in the project knows which one it is.
 */
import { parseArgs } from "node:util";

/** An option as it was given. */
export interface GivenOption {
  /** Without dashes. */
  readonly name: string;
  /** As typed, for messages: `--name` or `-n`. */
  readonly typed: string;
  /** Undefined when none was given. */
  readonly value: string | undefined;
  /** True for `--name=value`, false for a value in the next argument. */
  readonly joined: boolean;
}

export interface GivenArguments {
  readonly options: readonly GivenOption[];
  readonly positionals: readonly string[];
}

/**
 * Splits a command line into options and other arguments, without judging either. The options in
 * `valued` take the next argument when they have no `=value`; `--` ends the options.
 */
export function splitArguments(args: readonly string[], valued: readonly string[]): GivenArguments {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(valued.map((name) => [name, { type: "string" as const }])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  return {
    options: tokens
      .filter((token) => token.kind === "option")
      .map(({ name, rawName, value, inlineValue }) => ({
        name,
        typed: rawName,
        value,
        joined: inlineValue === true,
      })),
    positionals: tokens.filter((token) => token.kind === "positional").map(({ value }) => value),
  };
}
