/** From what was typed, or passed to `serve`, to option values that fit the schema. */
import type { Static, TObject } from "typebox";
import { type GivenOption, splitArguments } from "./args.ts";
import { type commonOptions, type OptionRow, programRows } from "./options.ts";
import { closest, UsageError } from "./usage.ts";

export type CommonValues = Static<typeof commonOptions>;

export interface CommandLine {
  readonly common: CommonValues;
  /** Values of the device's own options, defaults included. */
  readonly device: Record<string, unknown>;
}

/** What a row accepts, in words. */
function expectation(row: OptionRow): string {
  const { kind, minimum, maximum, choices } = row;
  if (kind === "flag") return "true or false";
  if (kind === "choice") {
    const words = choices.map(String);
    const last = words.pop()!;
    return words.length === 0 ? last : `${words.join(", ")} or ${last}`;
  }
  const noun = kind === "integer" ? "a whole number" : "a number";
  if (minimum !== undefined && maximum !== undefined)
    return `${noun} from ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `${noun} of at least ${minimum}`;
  return maximum === undefined ? noun : `${noun} of at most ${maximum}`;
}

/** Converts a value, or returns undefined when it is none of the row's. */
function convert(row: OptionRow, text: string): unknown {
  switch (row.kind) {
    case "text":
      return text;
    case "flag":
      return text === "true" ? true : text === "false" ? false : undefined;
    case "choice":
      return row.choices.find((choice) => String(choice) === text);
    default: {
      const pattern = row.kind === "integer" ? /^-?\d+$/ : /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i;
      if (!pattern.test(text)) return undefined;
      const value = Number(text);
      if (row.kind === "integer" && !Number.isSafeInteger(value)) return undefined;
      if (value < (row.minimum ?? -Infinity) || value > (row.maximum ?? Infinity)) return undefined;
      return value;
    }
  }
}

/**
 * The first thing that a schema has against a value, or null. Loads typebox's checker, which most
 * command lines can do without: it costs about 15 ms and 3 MiB.
 */
async function errorOf(schema: object, value: unknown): Promise<string | null> {
  const { Errors } = await import("typebox/schema");
  const [, [first]] = Errors(schema, value);
  return first === undefined ? null : `${first.instancePath} ${first.message}`.trim();
}

function valueGiven(row: OptionRow, { typed, value, joined }: GivenOption): unknown {
  if (row.kind === "flag" && value === undefined) return true;
  if (value === undefined || (!joined && value.startsWith("-"))) {
    throw new UsageError(`Missing value: give ${typed}=${row.placeholder}`);
  }
  const converted = convert(row, value);
  if (converted === undefined) {
    throw new UsageError(`Cannot use ${typed}=${value}: expected ${expectation(row)}`);
  }
  return converted;
}

/** The row of an option and the value given for it. `--no-x` is `--x=false`. */
function match(rows: readonly OptionRow[], given: GivenOption): [OptionRow, unknown] {
  const { name, typed } = given;
  const row = rows.find((candidate) => candidate.name === name);
  if (row !== undefined) return [row, valueGiven(row, given)];
  const negated = rows.find(
    ({ kind, name: positive }) => kind === "flag" && name === `no-${positive}`,
  );
  if (negated !== undefined && given.value === undefined) return [negated, false];
  const guess = closest(
    name,
    rows.map((candidate) => candidate.name),
  );
  const hint = guess === undefined ? "see --help" : `did you mean --${guess}?`;
  throw new UsageError(`Unknown option ${typed}: ${hint}`);
}

function collect(
  rows: readonly OptionRow[],
  given: readonly GivenOption[],
): Map<OptionRow, unknown> {
  const values = new Map<OptionRow, unknown>();
  for (const option of given) {
    const [row, value] = match(rows, option);
    if (row.repeated) values.set(row, [...((values.get(row) as unknown[]) ?? []), value]);
    else if (values.has(row)) throw new UsageError(`Cannot use ${option.typed} twice`);
    else values.set(row, value);
  }
  return values;
}

/** Checks values against keywords that conversion does not know, such as `maxLength`. */
async function checkConstraints(
  rows: readonly OptionRow[],
  given: ReadonlyMap<OptionRow, unknown>,
): Promise<void> {
  for (const row of rows) {
    if (!row.constrained || !(given.has(row) || row.repeated)) continue;
    const value = given.get(row) ?? row.default ?? [];
    const error = await errorOf(row.schema, value);
    if (error !== null) throw new UsageError(`Cannot use --${row.name}=${String(value)}: ${error}`);
  }
}

function complete(
  rows: readonly OptionRow[],
  given: ReadonlyMap<OptionRow, unknown>,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const row of rows) {
    const value = given.has(row) ? given.get(row) : structuredClone(row.default);
    if (value !== undefined) values[row.property] = value;
    else if (row.required) {
      throw new UsageError(`Missing option: give --${row.name}=${row.placeholder}`);
    } else if (row.repeated) values[row.property] = [];
  }
  return values;
}

/** Reads a command line. Throws `UsageError`. */
export async function readArguments(
  rows: readonly OptionRow[],
  args: readonly string[],
): Promise<{ values: Record<string, unknown>; positionals: readonly string[] }> {
  const valued = rows.filter(({ kind }) => kind !== "flag").map(({ name }) => name);
  const { options, positionals } = splitArguments(args, valued);
  const given = collect(rows, options);
  await checkConstraints(rows, given);
  return { values: complete(rows, given), positionals };
}

/** Reads a back-end program's command line. Throws `UsageError`. */
export async function readCommandLine(
  options: TObject,
  args: readonly string[],
): Promise<CommandLine> {
  const { device, common } = programRows(options);
  const { values, positionals } = await readArguments([...device, ...common], args);
  if (positionals.length > 0) {
    throw new UsageError(`Unexpected argument "${positionals[0]}": options begin with --`);
  }
  const part = (rows: readonly OptionRow[]) =>
    Object.fromEntries(
      rows
        .filter(({ property }) => property in values)
        .map(({ property }) => [property, values[property]]),
    );
  return { common: part(common) as CommonValues, device: part(device) };
}

/**
 * Completes options that a program passes to `serve` with their defaults and checks them.
 * Throws TypeError with the first thing that is wrong.
 */
export async function completeOptions(
  schema: TObject,
  options: Readonly<Record<string, unknown>>,
): Promise<Record<string, unknown>> {
  const rows = programRows(schema).device;
  const unknown = Object.keys(options).find((key) => !rows.some((row) => row.property === key));
  if (unknown !== undefined) throw new TypeError(`Unknown option "${unknown}"`);
  const values: Record<string, unknown> = {};
  for (const row of rows) {
    const otherwise = structuredClone(row.default) ?? (row.repeated ? [] : undefined);
    const value = options[row.property] ?? otherwise;
    if (value === undefined) {
      if (row.required) throw new TypeError(`Missing option "${row.property}"`);
      continue;
    }
    const error = await errorOf(row.schema, value);
    if (error !== null) {
      const plain = row.kind === "text" || row.constrained || row.repeated;
      const why = plain ? error : `expected ${expectation(row)}`;
      throw new TypeError(`Cannot use ${row.property}=${String(value)}: ${why}`);
    }
    values[row.property] = value;
  }
  return values;
}
