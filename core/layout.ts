/**
 * Binary layouts declared as typebox schemas: the bytes of control messages and config spaces.
 *
 * One declaration gives the static type, the offsets, and encoding and decoding. Integers are
 * little-endian, which virtio asks for config space and vhost-user's native order is here. This is
 * control-plane code: it makes objects and BigInts. The data plane reads fields by `offset`.
 */
import { type Static, type TObject, type TSchema, type TUnsafe, Type } from "typebox";

type Kind = "u8" | "u16" | "u32" | "u64" | "bytes" | "u64-array";

interface FieldSchema {
  readonly "~binary": { readonly kind: Kind; readonly size: number };
}

function field<T>(kind: Kind, size: number, schema: object): TUnsafe<T> {
  return Type.Unsafe<T>({ ...schema, "~binary": { kind, size } } as TSchema);
}

/** An unsigned byte. */
export const u8 = (): TUnsafe<number> => field("u8", 1, { type: "integer" });
/** A 16-bit unsigned integer. */
export const le16 = (): TUnsafe<number> => field("u16", 2, { type: "integer" });
/** A 32-bit unsigned integer. */
export const le32 = (): TUnsafe<number> => field("u32", 4, { type: "integer" });
/** A 64-bit unsigned integer, a BigInt in JavaScript. */
export const le64 = (): TUnsafe<bigint> => field("u64", 8, { type: "integer" });
/** `length` raw bytes. Shorter values are padded with zeros. */
export const raw = (length: number): TUnsafe<Uint8Array> => field("bytes", length, {});
/** `count` 64-bit unsigned integers. */
export const le64Array = (count: number): TUnsafe<readonly bigint[]> =>
  field("u64-array", count * 8, { type: "array" });

/** A struct's bytes: fields in declaration order, packed, so that padding is a declared field. */
export interface Layout<T extends TObject = TObject> {
  readonly schema: T;
  /** Bytes in all. */
  readonly size: number;
  /** Offset of each field in bytes. */
  readonly offset: { readonly [K in keyof T["properties"]]: number };
  /** Writes every field that `values` has; the others become zero. */
  encode(values: Partial<Static<T>>, into?: Uint8Array, at?: number): Uint8Array;
  /** Reads all fields. Throws RangeError when `from` is too short. */
  decode(from: Uint8Array, at?: number): Static<T>;
}

interface Row {
  readonly name: string;
  readonly kind: Kind;
  readonly at: number;
  readonly size: number;
}

function rowsOf(schema: TObject): Row[] {
  let at = 0;
  return Object.entries(schema.properties).map(([name, property]) => {
    const binary = (property as unknown as FieldSchema)["~binary"];
    if (binary === undefined) throw new TypeError(`Cannot lay out "${name}": not a binary field`);
    const row = { name, at, ...binary };
    at += binary.size;
    return row;
  });
}

function writeRow(view: DataView, at: number, row: Row, value: unknown): void {
  switch (row.kind) {
    case "u8":
      return view.setUint8(at, value as number);
    case "u16":
      return view.setUint16(at, value as number, true);
    case "u32":
      return view.setUint32(at, value as number, true);
    case "u64":
      return view.setBigUint64(at, value as bigint, true);
    case "u64-array":
      (value as bigint[]).forEach((item, i) => {
        view.setBigUint64(at + i * 8, item, true);
      });
      return;
    case "bytes": {
      const source = value as Uint8Array;
      if (source.length > row.size) {
        throw new RangeError(`Cannot store ${source.length} bytes in ${row.name} of ${row.size}`);
      }
      new Uint8Array(view.buffer, view.byteOffset + at, row.size).set(source);
    }
  }
}

function readRow(view: DataView, at: number, row: Row): unknown {
  switch (row.kind) {
    case "u8":
      return view.getUint8(at);
    case "u16":
      return view.getUint16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "u64":
      return view.getBigUint64(at, true);
    case "u64-array":
      return Array.from({ length: row.size / 8 }, (_, i) => view.getBigUint64(at + i * 8, true));
    case "bytes":
      return new Uint8Array(view.buffer, view.byteOffset + at, row.size).slice();
  }
}

const viewOf = (bytes: Uint8Array) =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Makes a layout of an object schema whose fields are `u8`, `le16`, `le32`, `le64`, `raw` or
 * `le64Array`.
 *
 * @example
 * const header = layout(Type.Object({ type: le32(), priority: le32(), sector: le64() }));
 * header.size; // 16
 * header.offset.sector; // 8
 */
export function layout<T extends TObject>(schema: T): Layout<T> {
  const rows = rowsOf(schema);
  const size = rows.reduce((sum, row) => sum + row.size, 0);
  const offset = Object.fromEntries(rows.map((row) => [row.name, row.at]));
  return {
    schema,
    size,
    offset: offset as Layout<T>["offset"],
    encode(values, into = new Uint8Array(size), at = 0) {
      if (at + size > into.length) {
        throw new RangeError(`Cannot encode ${size} bytes at ${at} of ${into.length}`);
      }
      const view = viewOf(into);
      into.fill(0, at, at + size);
      for (const row of rows) {
        const value = (values as Record<string, unknown>)[row.name];
        if (value !== undefined) writeRow(view, at + row.at, row, value);
      }
      return into;
    },
    decode(from, at = 0) {
      if (at + size > from.length) {
        throw new RangeError(`Cannot decode ${size} bytes at ${at} of ${from.length}`);
      }
      const view = viewOf(from);
      return Object.fromEntries(
        rows.map((row) => [row.name, readRow(view, at + row.at, row)]),
      ) as Static<T>;
    },
  };
}
