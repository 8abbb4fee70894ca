import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { U64 } from "../payloads.ts";
import type { Session } from "../session.ts";

/** The handler answers later, with `session.answer`. No other message is read meanwhile. */
export const WAIT = Symbol("wait");

/**
 * Handles one message. Returns the reply's payload, nothing for a plain acknowledgement, or `WAIT`.
 * Throws `ProtocolError` to refuse it.
 */
export type Handler = (session: Session, message: Message) => Uint8Array | undefined | typeof WAIT;

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
