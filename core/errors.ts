/**
 * The two ways the other side can be wrong. Neither ends the process: a `ProtocolError` refuses a
 * message or ends one connection, a `GuestError` breaks one virtqueue.
 */

import type { Log } from "./log.ts";

/** The front-end sent something the protocol does not allow. */
export class ProtocolError extends Error {
  /** True when the byte stream itself can no longer be trusted, so that the connection must end. */
  readonly fatal: boolean;

  constructor(message: string, options: { fatal?: boolean } = {}) {
    super(message);
    this.name = "ProtocolError";
    this.fatal = options.fatal ?? false;
  }
}

/** The driver put something into a virtqueue that the virtio specification does not allow. */
export class GuestError extends Error {
  /** Where the broken rule stands, as `virtio 1.3 2.7.5`. */
  readonly rule: string;

  constructor(message: string, rule: string) {
    super(message);
    this.name = "GuestError";
    this.rule = rule;
  }
}

/** Says why a queue ends: by the driver's fault and which rule it broke, or by the device's. */
export function logBreak(log: Log, error: unknown): void {
  if (error instanceof GuestError) {
    log.error(`The driver broke the queue: ${error.message}`, { rule: error.rule });
    return;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  log.error(`The device failed, its queue stops: ${text}`);
}
