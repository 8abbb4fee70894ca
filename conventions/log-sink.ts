/** Log records as lines on stderr. */
import type { LogRecord, LogSink } from "../core/log.ts";
import { bytes, libc } from "../ffi/mod.ts";

const STDERR = 2;

/**
 * Writes a line at once, so that nothing is lost when the process ends right after. A reader that
 * does not keep up loses lines instead of stopping the device.
 */
export function writeStderr(line: string): void {
  const encoded = new TextEncoder().encode(`${line}\n`);
  const data = bytes(encoded.length);
  data.set(encoded);
  libc.write(STDERR, data, data.length);
}

/** A guest has a say in some messages; none of them may forge a line or drive a terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function textLine(program: string, { level, message, fields }: LogRecord): string {
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`);
  const details = pairs.length === 0 ? "" : ` (${pairs.join(", ")})`;
  return printable(`${program}: ${level}: ${message}${details}`);
}

function jsonLine(program: string, { level, message, fields }: LogRecord): string {
  const time = new Date().toISOString();
  return JSON.stringify({ ...fields, time, level, program, message });
}

/** A sink that writes one line per record: for people, or as JSON for programs. */
export function logSink(
  program: string,
  format: "text" | "json" = "text",
  write: (line: string) => void = writeStderr,
): LogSink {
  const toLine = format === "json" ? jsonLine : textLine;
  return (record) => write(toLine(program, record));
}
