/** Plays a kept trace against a new back-end, and finds out how little of it is enough. */
import { serveProtocol } from "../../core/drafts.ts";
import { Arena } from "./arena.ts";
import { layRings } from "./message-burst.ts";
import { Objects } from "./objects.ts";
import { Oracle } from "./oracle.ts";
import { Target } from "./target.ts";
import { type Batch, draftOf, type TraceFile } from "./trace.ts";
import { Wire } from "./wire.ts";

/** Checks after a trace: some things are only looked at now and then. */
const CHECKS = 8;

type Line = Batch["lines"][number];

/** Sends one connection's messages; the front-end does nothing else, with rings or requests. */
function playConnection(
  { socket, variant }: Target,
  batches: readonly Batch[],
  objects: Objects,
): void {
  const { rows } = serveProtocol(variant.drafts ?? []);
  using wire = new Wire(socket);
  if (variant.drafts !== undefined) wire.onRequest = () => {};
  wire.onReply = (name, { fds }) => objects.keep(name, fds);
  for (const { lines } of batches) {
    if (!wire.open) break;
    wire.exchange(lines.map((line) => draftOf(line, rows, objects)));
    objects.release(true);
  }
  objects.endConnection();
}

/** Connections of a trace, each a list of batches. */
function connectionsOf({ batches }: TraceFile): Batch[][] {
  const connections: Batch[][] = [];
  for (const batch of batches) {
    if (batch.connects) connections.push([]);
    connections.at(-1)!.push(batch);
  }
  return connections;
}

/** What is found when connections are played against a new back-end, or null. */
function play({ variant }: TraceFile, connections: readonly Batch[][]): string | null {
  using arena = new Arena();
  const target = new Target(variant);
  try {
    const oracle = new Oracle(target, arena);
    using objects = new Objects(arena);
    for (const ring of layRings(arena)) ring[Symbol.dispose]();
    for (const connection of connections) playConnection(target, connection, objects);
    for (let i = 0; i < CHECKS; i++) oracle.check(i);
    return null;
  } catch (error) {
    return (error as Error).message;
  } finally {
    target.stop();
  }
}

export const playTrace = (file: TraceFile): string | null => play(file, connectionsOf(file));

/** Leaves out as much as it can of a list for which `fails` holds, in ever smaller pieces. */
function shrink<T>(list: readonly T[], fails: (list: readonly T[]) => boolean): readonly T[] {
  let left = list;
  for (let size = Math.ceil(left.length / 2); size >= 1; size = size === 1 ? 0 : size >> 1) {
    for (let at = 0; at < left.length && left.length > 1; ) {
      const shorter = [...left.slice(0, at), ...left.slice(at + size)];
      if (shorter.length > 0 && fails(shorter)) left = shorter;
      else at += size;
    }
  }
  return left;
}

/** The shortest part of a trace that still finds something. */
export function minimize(file: TraceFile, told: (text: string) => void): TraceFile {
  const fails = (connections: readonly Batch[][]): boolean => {
    const count = connections.flat().reduce((sum, { lines }) => sum + lines.length, 0);
    const found = play(file, connections);
    told(`${count} messages: ${found?.split("\n")[0] ?? "nothing found"}`);
    return found !== null;
  };
  const some = shrink(connectionsOf(file), fails).map((batches) =>
    batches.flatMap(({ lines }) => lines),
  );
  const single = (lines: readonly Line[]): Batch[] =>
    lines.map((line, i) => ({ connects: i === 0, lines: [line] }));
  for (let i = 0; i < some.length; i++) {
    const others = (lines: readonly Line[]) =>
      some.map((connection, at) => single(at === i ? lines : connection));
    some[i] = [...shrink(some[i]!, (lines) => fails(others(lines)))];
  }
  return { ...file, batches: some.flatMap(single) };
}
