import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { U64 } from "../payloads.ts";
import type { Session } from "../session.ts";

/** The handler answers later, with `session.answer`. No other message is read meanwhile. */
export const WAIT = Symbol("wait");

/** The message is an answer itself: it gets none, whatever its flags say. */
export const SILENT = Symbol("silent");

/** A reply's payload, with descriptors where it has any; they stay whose they are. */
export type Outcome =
  | Uint8Array
  | { readonly payload: Uint8Array; readonly fds: readonly number[] };

/**
 * Handles one message. Returns the reply, nothing for a plain acknowledgement, `WAIT`, or `SILENT`.
 * Throws `ProtocolError` to refuse it.
 */
export type Handler = (
  session: Session,
  message: Message,
) => Outcome | undefined | typeof WAIT | typeof SILENT;

/** Acknowledges a message when the device is done with it: at once, or when its promise settles. */
export function whenDone(
  session: Session,
  message: Message,
  done: void | Promise<void>,
): undefined | typeof WAIT {
  if (done === undefined) return undefined;
  done.then(
    () => session.answer(message),
    (error) => session.answer(message, undefined, error),
  );
  return WAIT;
}

/** The u64 of a message. */
export function readU64(message: Message): bigint {
  return U64.decode(message.payload).value;
}

/** A u64 reply. */
export function u64(value: bigint | number): Uint8Array {
  return U64.encode({ value: BigInt(value) });
}

/** An address or size from the wire as an exact number. */
export function toNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ProtocolError(`Cannot use ${what} 0x${value.toString(16)}: it is beyond 2^53`);
  }
  return Number(value);
}
