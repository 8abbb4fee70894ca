/** Answers to the back-end's own requests: right ones, refusals, nonsense, and silence. */
import { Header, U64 } from "../../core/payloads.ts";
import { backEndMessages, Flag, type MessageRow } from "../../core/protocol.ts";
import { type Fd, MessageBuffer } from "../../ffi/mod.ts";
import type { Random } from "../bad-input/random.ts";
import { Finding } from "./finding.ts";
import type { Objects } from "./objects.ts";

const names = new Map(
  Object.values(backEndMessages).map((row: MessageRow) => [row.code, row] as const),
);
const buffer = new MessageBuffer(64 * 1024);

function receive(socket: Fd): number {
  try {
    const got = buffer.receive(socket, 0, buffer.data.length);
    for (const fd of buffer.received) fd.close();
    return got;
  } catch {
    return 0;
  }
}

function send(socket: Fd, data: Uint8Array, fds: readonly number[] = []): void {
  buffer.data.set(data);
  try {
    buffer.send(socket, 0, data.length, fds);
  } catch {
    // The back-end has given the socket up.
  }
}

/** Reads what has come and answers it. `count` learns the name of every request. */
export function serveChannel(
  random: Random,
  socket: Fd,
  objects: Objects,
  count: (name: string) => void,
): void {
  const got = receive(socket);
  if (got <= 0) return;
  const data = buffer.data.slice(0, got);
  for (let at = 0; at + Header.size <= got; ) {
    const { request, flags, size } = Header.decode(data, at);
    const row = names.get(request);
    if (row === undefined || (flags & ~Flag.NEED_REPLY) !== Flag.VERSION) {
      throw new Finding(`The back-end sent request ${request} with flags 0x${flags.toString(16)}`);
    }
    count(row.name);
    at += Header.size + size;
    if (row.reply !== "ack" || (flags & Flag.NEED_REPLY) !== 0)
      answer(random, socket, row, objects);
  }
}

function answer(random: Random, socket: Fd, row: MessageRow, objects: Objects): void {
  if (random.chance(0.05)) return;
  const wrong = random.chance(0.05);
  const reply = new Uint8Array(Header.size + U64.size);
  const request = wrong && random.chance(0.5) ? random.below(12) : row.code;
  const flags = wrong && random.chance(0.5) ? random.below(16) : Flag.VERSION | Flag.REPLY;
  Header.encode({ request, flags, size: U64.size }, reply);
  U64.encode({ value: random.chance(0.7) ? 0n : 1n }, reply, Header.size);
  if (wrong && random.chance(0.3)) random.fill(reply);
  const fds = random.chance(0.2) ? [objects.get("memfd-page").fd.number] : [];
  send(socket, reply, fds);
}
