/** `--help`, made of a device's declaration. */
import { type AnyDevice, deviceName } from "../core/device.ts";
import { type OptionRow, programRows } from "./options.ts";

const WIDTH = 100;
const INDENT = 2;
/** Longer option names get a line of their own. */
const WIDEST_NAME = 34;

/** The name of a device's program: `vhost-user-blk`. */
export function programName(device: AnyDevice): string {
  return `vhost-user-${deviceName(device)}`;
}

function signature(row: OptionRow): string {
  if (row.kind !== "flag") return `--${row.name}=${row.placeholder}`;
  return row.default === true ? `--no-${row.name}` : `--${row.name}`;
}

function remarks({
  kind,
  default: value,
  minimum,
  maximum,
  repeated,
  required,
}: OptionRow): string {
  const range =
    minimum !== undefined && maximum !== undefined && maximum < 2 ** 31 - 1
      ? [`${minimum} to ${maximum}`]
      : [];
  const preset =
    value === undefined || (kind === "flag" && value === false) ? [] : [`default ${value}`];
  const all = [
    ...(required ? ["required"] : []),
    ...range,
    ...(kind === "flag" && value === true ? ["on by default"] : preset),
    ...(repeated ? ["may be repeated"] : []),
  ];
  return all.length === 0 ? "" : ` (${all.join("; ")})`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines;
}

/** One line or more per option, descriptions in a column. */
export function describeOptions(rows: readonly OptionRow[]): string {
  const names = rows.map(signature);
  const column = Math.max(...names.map((name) => Math.min(name.length, WIDEST_NAME))) + 2 * INDENT;
  const lines = rows.flatMap((row, i) => {
    const text = wrap(row.description + remarks(row), WIDTH - column);
    const name = " ".repeat(INDENT) + names[i]!;
    const fits = name.length + INDENT <= column;
    const first = fits ? [name.padEnd(column) + text.shift()] : [name];
    return [...first, ...text.map((line) => " ".repeat(column) + line)];
  });
  return lines.join("\n");
}

/** The help text of a device's program. */
export function helpText(device: AnyDevice): string {
  const name = programName(device);
  const rows = programRows(device.options);
  const own = rows.device.length === 0 ? [] : [`Device options:\n${describeOptions(rows.device)}`];
  return [
    `Usage: ${name} --socket-path=PATH [OPTION...]\n       ${name} --fd=FDNUM [OPTION...]`,
    device.summary,
    ...own,
    `Common options:\n${describeOptions(rows.common)}`,
  ].join("\n\n");
}
