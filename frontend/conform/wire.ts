/** Payloads of single messages, right or wrong, and what a back-end answers to one. */
import { ConfigHeader, Header, U64, VringState } from "../../core/payloads.ts";
import { frontEndMessages, type MessageRow } from "../../core/protocol.ts";
import type { Fd } from "../../ffi/mod.ts";
import type { Connection } from "../connection.ts";
import { BackEndError } from "../errors.ts";
import { fail } from "./check.ts";

export const M = frontEndMessages;

export const u64 = (value: bigint | number): Uint8Array => U64.encode({ value: BigInt(value) });

export const vringState = (index: number, num: number): Uint8Array =>
  VringState.encode({ index, num });

/** A GET_CONFIG or SET_CONFIG payload; `bytes` may be another number than `size`. */
export function config(offset: number, size: number, bytes = size, flags = 0): Uint8Array {
  const payload = new Uint8Array(ConfigHeader.size + bytes);
  ConfigHeader.encode({ offset, size, flags }, payload);
  return payload;
}

/**
 * What became of a message. `unanswered`: acknowledgements are not negotiated, and the connection
 * goes on.
 */
export type Answer = "ok" | "refused" | "closed" | "silent" | "unanswered";

/** Sends a message without a reply of its own and finds out what becomes of it. */
export function tell(
  connection: Connection,
  row: MessageRow,
  payload?: Uint8Array,
  fds?: readonly Fd[],
): Answer {
  try {
    if (connection.acknowledged) {
      return connection.acknowledge(row, payload, fds) === 0n ? "ok" : "refused";
    }
    connection.send(row, payload, fds);
    connection.request(M.GET_FEATURES);
    return "unanswered";
  } catch (error) {
    return answerOf(error);
  }
}

/** Sends a message with a reply of its own; `value` is the reply's. */
export function ask(
  connection: Connection,
  row: MessageRow,
  payload?: Uint8Array,
): { answer: Answer; payload: Uint8Array } {
  try {
    const reply = connection.request(row, payload);
    for (const fd of reply.fds) fd.close();
    return { answer: "ok", payload: reply.payload };
  } catch (error) {
    return { answer: answerOf(error), payload: new Uint8Array(0) };
  }
}

function answerOf(error: unknown): Answer {
  if (!(error instanceof BackEndError)) throw error;
  if (error.fault === "closed" || error.fault === "silent") return error.fault;
  throw error;
}

/** The answers that say no; saying nothing is one only where acknowledging is impossible. */
export const denials: readonly Answer[] = ["refused", "closed", "unanswered"];

/** Fails the check unless the message is refused or ends the connection. */
export function expectDenied(
  connection: Connection,
  what: string,
  row: MessageRow,
  payload?: Uint8Array,
  fds?: readonly Fd[],
): Answer {
  const answer = tell(connection, row, payload, fds);
  if (!denials.includes(answer)) fail(`${what} to be refused or to end the connection`, answer);
  return answer;
}

/** Fails the check unless the message is taken. */
export function expectTaken(
  connection: Connection,
  what: string,
  row: MessageRow,
  payload?: Uint8Array,
  fds?: readonly Fd[],
): void {
  const answer = tell(connection, row, payload, fds);
  if (answer !== "ok" && answer !== "unanswered") fail(`${what} to be accepted`, answer);
}

export function askU64(connection: Connection, row: MessageRow): bigint {
  return U64.decode(connection.request(row).payload).value;
}

/** Reads one reply whose header may be anything. */
export function rawReply(connection: Connection): { flags: number; size: number } {
  let bytes = new Uint8Array(0);
  while (bytes.length < Header.size) {
    const more = connection.receiveRaw(Header.size - bytes.length);
    if (more === null) fail("a reply", "nothing");
    if (more.length === 0) fail("a reply", "the end of the connection");
    bytes = Uint8Array.from([...bytes, ...more]);
  }
  const { flags, size } = Header.decode(bytes);
  for (let left = size; left > 0; ) {
    const part = connection.receiveRaw(left);
    if (part === null || part.length === 0) fail(`${size} bytes of payload`, `${size - left}`);
    left -= part.length;
  }
  return { flags, size };
}
