/**
 * Options as typebox schemas: those of every back-end program, and how any schema becomes flags.
 * vhost-user, "Backend program conventions", names the first three.
 */
import { type TObject, type TSchema, Type } from "typebox";
import { DEFAULT_POLL_US } from "../core/polling.ts";

/** Options that every back-end program has. */
export const commonOptions = Type.Object({
  socketPath: Type.Array(Type.String({ placeholder: "PATH" }), {
    description: "Listen on this Unix socket; it is created and removed",
  }),
  fd: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 2 ** 31 - 1,
      placeholder: "FDNUM",
      description: "Use this inherited socket, connected or listening, instead",
    }),
  ),
  printCapabilities: Type.Boolean({
    default: false,
    description: "Print the capabilities as JSON and exit",
  }),
  iommu: Type.Boolean({
    default: false,
    description: "Offer to serve a device behind an IOMMU",
  }),
  ringReset: Type.Boolean({
    default: false,
    description: "Offer drivers to reset single queues; not for QEMU, which says nothing of it",
  }),
  postcopy: Type.Boolean({
    default: false,
    description: "Let a guest migrate to here and run before all of its memory has come",
  }),
  pollUs: Type.Integer({
    default: DEFAULT_POLL_US,
    minimum: 0,
    maximum: 1_000_000,
    description: "Look for requests so many microseconds, while that pays, before sleeping",
  }),
  logLevel: Type.Union(
    [Type.Literal("error"), Type.Literal("warn"), Type.Literal("info"), Type.Literal("debug")],
    { default: "info", description: "Least severe messages to write to stderr" },
  ),
  logFormat: Type.Union([Type.Literal("text"), Type.Literal("json")], {
    default: "text",
    description: "Form of those messages, one per line",
  }),
  draft: Type.Array(Type.Union([Type.Literal("standalone"), Type.Literal("vhost-pci")]), {
    description: "Serve a draft of the protocol in place of what has its numbers now",
  }),
  without: Type.Optional(
    Type.Array(Type.String({ placeholder: "FEATURE" }), {
      description: "Do not offer this feature, as ring-packed or inflight-shmfd",
    }),
  ),
  help: Type.Boolean({ default: false, description: "Print this help and exit" }),
  version: Type.Boolean({ default: false, description: "Print the version and exit" }),
});

export type OptionKind = "text" | "flag" | "integer" | "number" | "choice";
export type Choice = string | number | boolean;

/** One option, as the command line and the help see it. */
export interface OptionRow {
  /** As in the schema: `blkFile`. */
  readonly property: string;
  /** As on the command line, without dashes: `blk-file`. */
  readonly name: string;
  readonly kind: OptionKind;
  /** True for an array: the option may be given several times. */
  readonly repeated: boolean;
  readonly choices: readonly Choice[];
  readonly minimum: number | undefined;
  readonly maximum: number | undefined;
  readonly placeholder: string;
  readonly description: string;
  readonly default: unknown;
  /** True when there is no value without the option. */
  readonly required: boolean;
  readonly schema: TSchema;
  /** True when the schema says more than this row, so that only typebox can judge a value. */
  readonly constrained: boolean;
}

/** The part of JSON Schema that rows are made of. */
interface Keywords {
  readonly type?: string;
  readonly anyOf?: readonly Keywords[];
  readonly enum?: readonly Choice[];
  readonly const?: Choice;
  readonly items?: Keywords;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly placeholder?: string;
  readonly description?: string;
  readonly default?: unknown;
}

/** Keywords that a row carries, so that a value needs no further check for them. */
const understood = new Set(
  "type anyOf enum const items minimum maximum placeholder description default".split(" "),
);

/** The name of a property's option: `blkFile` becomes `blk-file`. */
export function optionName(property: string): string {
  return property.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function choicesOf(schema: Keywords): readonly Choice[] | null {
  if (schema.enum !== undefined) return schema.enum;
  if (schema.const !== undefined) return [schema.const];
  if (schema.anyOf === undefined) return null;
  const parts = schema.anyOf.map(choicesOf);
  return parts.includes(null) ? null : parts.flatMap((part) => part!);
}

function kindOf(schema: Keywords): OptionKind | null {
  if (choicesOf(schema) !== null) return "choice";
  if (schema.type === "string") return "text";
  if (schema.type === "boolean") return "flag";
  if (schema.type === "integer" || schema.type === "number") return schema.type;
  return null;
}

function placeholderOf(name: string, kind: OptionKind, schema: Keywords): string {
  if (schema.placeholder !== undefined) return schema.placeholder;
  if (kind === "choice") return choicesOf(schema)!.join("|");
  if (kind !== "text") return "N";
  return name.slice(name.lastIndexOf("-") + 1).toUpperCase();
}

function rowOf(property: string, schema: TSchema, required: boolean): OptionRow {
  const whole = schema as Keywords;
  const repeated = whole.type === "array" && whole.items !== undefined;
  const item = repeated ? whole.items! : whole;
  const kind = kindOf(item);
  const name = optionName(property);
  if (kind === null || (repeated && kind === "flag")) {
    throw new TypeError(
      `Cannot make an option of "${property}": it must be a string, boolean, number, integer, ` +
        "a union of literals, or an array of one of these",
    );
  }
  const keywords = [...Object.keys(whole), ...(repeated ? Object.keys(item) : [])];
  return {
    property,
    name,
    kind,
    repeated,
    choices: choicesOf(item) ?? [],
    minimum: item.minimum,
    maximum: item.maximum,
    placeholder: placeholderOf(name, kind, item),
    description: whole.description ?? "",
    default: whole.default ?? (kind === "flag" && required ? false : undefined),
    required: required && kind !== "flag" && !repeated && whole.default === undefined,
    schema,
    constrained: !keywords.every((keyword) => understood.has(keyword)),
  };
}

/** The options of a schema, in its order. Throws TypeError for a property of another type. */
export function optionRows(schema: TObject): OptionRow[] {
  const required = new Set((schema as { required?: readonly string[] }).required ?? []);
  return Object.entries(schema.properties).map(([property, value]) =>
    rowOf(property, value, required.has(property)),
  );
}

const common = optionRows(commonOptions);

/** The options of a program: the device's own, then the common ones. */
export function programRows(device: TObject): { device: OptionRow[]; common: OptionRow[] } {
  const rows = optionRows(device);
  const taken = new Set(common.map(({ name }) => name));
  for (const { name, property } of rows) {
    if (taken.has(name)) {
      throw new TypeError(`Cannot make an option of "${property}": --${name} exists already`);
    }
    taken.add(name);
  }
  return { device: rows, common };
}
