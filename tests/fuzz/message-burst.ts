/** One burst of messages against one back-end, over as many connections as it takes. */
import { U64 } from "../../core/payloads.ts";
import { Flag, type MessageRow } from "../../core/protocol.ts";
import { signal } from "../../ffi/mod.ts";
import type { Random } from "../bad-input/random.ts";
import { type Descriptor, Ring, WRITE } from "../bad-input/ring.ts";
import { type Arena, RINGS } from "./arena.ts";
import { serveChannel } from "./channel.ts";
import { MessageMaker } from "./message-maker.ts";
import { Objects } from "./objects.ts";
import type { Tally } from "./tally.ts";
import type { Target } from "./target.ts";
import type { Trace } from "./trace.ts";
import { Wire } from "./wire.ts";

export interface BurstOptions {
  readonly target: Target;
  readonly arena: Arena;
  readonly random: Random;
  /** What the back-end knows. */
  readonly rows: readonly MessageRow[];
  readonly focus: MessageRow;
  readonly queues: number;
  readonly messages: number;
  readonly tally: Tally;
  readonly trace: Trace;
}

const RING_SIZE = 64;
/** Chains of three that are there for whoever makes the rings run. */
const CHAINS = 21;

/** Fills the rings with requests that can be served. */
export function layRings(arena: Arena): Ring[] {
  arena.clear();
  return Array.from({ length: RINGS }, (_, index) => {
    const ring = new Ring(index, RING_SIZE, arena.view);
    for (let i = 0; i < RING_SIZE; i++) ring.offer((i % CHAINS) * 3);
    ring.availableIndex = 0;
    for (let i = 0; i < CHAINS; i++) {
      const at = ring.data + i * 1024;
      const buffers: Descriptor[] = [
        { address: at, length: 16 },
        { address: at + 16, length: 512, flags: WRITE },
        { address: at + 600, length: 1, flags: WRITE },
      ];
      ring.chain(i * 3, buffers);
    }
    return ring;
  });
}

/** Answers a request that came on the main socket, most of the time. */
function answer(random: Random, wire: Wire, code: number): void {
  if (random.chance(0.2)) return;
  const flags = Flag.VERSION | Flag.REPLY;
  const payload = U64.encode({ value: BigInt(random.below(2)) });
  wire.sendFrame({ code, flags, size: payload.length, payload });
}

export function runMessages(options: BurstOptions): void {
  const { target, arena, random, tally, trace } = options;
  using objects = new Objects(arena);
  const maker = new MessageMaker(random, objects, options);
  const rings = layRings(arena);
  const kicks = Array.from({ length: RINGS }, (_, i) => objects.get(`eventfd-${i}`).fd);
  const end = tally.sent + options.messages;
  try {
    while (tally.sent < end) {
      using wire = new Wire(target.socket);
      wire.onReply = (name, reply) => maker.learn(name, reply);
      if (target.variant.drafts !== undefined)
        wire.onRequest = (code) => answer(random, wire, code);
      tally.connections++;
      trace.connect();
      maker.begin();
      while (wire.open && tally.sent < end) {
        const drafts = maker.batch(end - tally.sent);
        trace.add(drafts);
        const outcomes = wire.exchange(drafts);
        drafts.forEach((draft, i) => {
          tally.add(draft, outcomes[i]!);
          maker.told(draft, outcomes[i]!);
        });
        const channel = objects.channels.at(-1);
        if (channel !== undefined && random.chance(0.5)) {
          serveChannel(random, channel, objects, (name) => {
            tally.requests.set(name, (tally.requests.get(name) ?? 0) + 1);
          });
        }
        objects.release(random.chance(0.9));
        if (random.chance(0.2)) {
          const ring = random.pick(rings);
          ring.availableIndex += random.below(random.chance(0.98) ? 4 : 200);
          for (const kick of kicks) signal(kick.number);
        }
      }
      objects.endConnection();
    }
  } finally {
    for (const ring of rings) ring[Symbol.dispose]();
  }
}
