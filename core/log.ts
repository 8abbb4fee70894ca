/** Leveled log with structured fields. Silent unless a sink is given: a library does not print. */

export type LogLevel = "error" | "warn" | "info" | "debug";
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogRecord {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

export type LogSink = (record: LogRecord) => void;

const order: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

/**
 * Equal messages per second that reach the sink; the rest is counted. A guest can cause them. Who
 * asked for level `debug` gets them all.
 */
const REPEAT_LIMIT = 5;

export class Log {
  readonly #sink: LogSink;
  readonly #threshold: number;
  readonly #fields: LogFields;
  readonly #repeats: Map<string, { since: number; count: number }>;

  constructor(
    sink: LogSink = () => {},
    level: LogLevel = "info",
    fields: LogFields = {},
    repeats: Map<string, { since: number; count: number }> = new Map(),
  ) {
    this.#sink = sink;
    this.#threshold = order[level];
    this.#fields = fields;
    this.#repeats = repeats;
  }

  /** A log that adds `fields` to each record. */
  with(fields: LogFields): Log {
    const level = (Object.keys(order) as LogLevel[]).find((l) => order[l] === this.#threshold)!;
    return new Log(this.#sink, level, { ...this.#fields, ...fields }, this.#repeats);
  }

  enabled(level: LogLevel): boolean {
    return order[level] <= this.#threshold;
  }

  error(message: string, fields: LogFields = {}): void {
    this.#write("error", message, fields);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#write("warn", message, fields);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#write("info", message, fields);
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#write("debug", message, fields);
  }

  #write(level: LogLevel, message: string, fields: LogFields): void {
    if (!this.enabled(level)) return;
    const suppressed = this.enabled("debug") ? 0 : this.#throttle(message);
    if (suppressed < 0) return;
    const extra = suppressed > 0 ? { suppressed } : {};
    this.#sink({ level, message, fields: { ...this.#fields, ...fields, ...extra } });
  }

  /** Returns -1 to drop the message, else how many equal ones were dropped before it. */
  #throttle(message: string): number {
    const now = performance.now();
    const entry = this.#repeats.get(message);
    if (entry === undefined || now - entry.since > 1000) {
      if (this.#repeats.size > 256) this.#repeats.clear();
      this.#repeats.set(message, { since: now, count: 1 });
      return Math.max(0, (entry?.count ?? 0) - REPEAT_LIMIT);
    }
    entry.count++;
    return entry.count <= REPEAT_LIMIT ? 0 : -1;
  }
}
