/** Selects the runtime, opens libc, and turns failing calls into `SystemError`. */
import { errnoCode, errnoText } from "./errno.ts";
import { type Libc, type Runtime, symbols } from "./symbols.ts";

export const runtime: Runtime =
  "Deno" in globalThis ? (await import("./deno.ts")).runtime : (await import("./bun.ts")).runtime;

/** What is loaded in the place of libc, or libc itself. */
export const library: string = process.env.RINGSIDE_LIBC || "libc.so.6";

function bindLibc(): Libc {
  try {
    return runtime.bind(library, symbols);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Cannot load the C library ${library}: ${why}`, { cause });
  }
}

/** libc, by name. A negative result means failure; read `errno()` in the very next expression. */
export const libc: Libc = bindLibc();

// errno is thread-local, and so is this module: each Worker loads its own copy.
const errnoCell = new Int32Array(runtime.view(libc.__errno_location(), 4));

/** The error number of the last failed call of this thread. Only valid right after it. */
export function errno(): number {
  return errnoCell[0]!;
}

/** A system call that failed. `errno` is positive, `code` its name (`ENOENT`). */
export class SystemError extends Error {
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;
  readonly path: string | undefined;

  constructor(syscall: string, number: number, path?: string) {
    const code = errnoCode(number);
    const where = path === undefined ? "" : ` "${path}"`;
    super(`${syscall}${where} failed: ${errnoText(number)} (${code})`);
    this.name = "SystemError";
    this.syscall = syscall;
    this.errno = number;
    this.code = code;
    this.path = path;
  }
}

/** Passes a result >= 0 through and throws `SystemError` otherwise. */
export function check(result: number, syscall: string, path?: string): number {
  if (result < 0) throw new SystemError(syscall, errnoCell[0]!, path);
  return result;
}

/** A zero-filled byte array that FFI may hold on to: small arrays without a buffer of their own move. */
export function bytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length));
}

/** A NUL-terminated UTF-8 string. Throws on an embedded NUL, which would name another file. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError(`Cannot pass a string with a NUL byte: "${text}"`);
  const encoded = new TextEncoder().encode(text);
  const result = bytes(encoded.length + 1);
  result.set(encoded);
  return result;
}
