import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { Flag } from "../../core/protocol.ts";
import { createEventFd } from "../../ffi/mod.ts";
import { GarbageMaker } from "./garbage.ts";
import { type Guest, MEMORY_SIZE } from "./guest.ts";
import { assortment, blockingEventFd } from "./objects.ts";
import { DISK_SIZE } from "./program.ts";
import { Random } from "./random.ts";
import { AVAILABLE, DATA, INDIRECT, NEXT, type Ring, WRITE } from "./ring.ts";
import { full, serves, suite } from "./row.ts";

const { row, guest } = suite();
const MESSAGES = full ? 500_000 : 8_000;
const PER_CONNECTION = 150;
const RINGS = 3;

/** Puts random chains, most of them into guest memory, into a ring and kicks it. */
function scribble(g: Guest, ring: Ring, random: Random): void {
  for (let i = 0; i < 8; i++) {
    const inside = random.chance(0.9);
    const length = random.pick([0, 1, 16, 17, 512, 4096, 65536, 0xffffffff]);
    const flags = random.pick([0, 0, NEXT, NEXT, NEXT | WRITE, WRITE, INDIRECT, random.bits()]);
    ring.descriptor(i, {
      // Some of it lies in the rings themselves.
      address: inside ? random.below(MEMORY_SIZE) : (BigInt(random.bits()) << 32n) | 5n,
      length: random.chance(0.9) ? length : random.bits(),
      flags: flags & 0xffff,
      next: random.chance(0.9) ? random.below(8) : random.below(65536),
    });
  }
  if (random.chance(0.7)) {
    const type = random.pick([0, 1, 4, 8, 11, 13, random.bits()]);
    const sector = random.chance(0.8) ? random.below(DISK_SIZE / 512) : random.bits();
    const request = random.chance(0.5) ? { length: 512 } : { data: new Uint8Array(512) };
    ring.chain(8, g.buffers(ring, { type, sector, ...request }));
  }
  const heads = [random.below(8), 8, random.chance(0.95) ? random.below(11) : random.below(65536)];
  ring.offer(...heads.slice(0, 1 + random.below(3)));
  if (random.chance(0.03)) ring.availableIndex = random.bits();
  if (random.chance(0.05)) {
    const at = ring.base + random.pick([0, AVAILABLE, 0xa000]);
    random.fill(g.memory.subarray(at, at + 600));
  }
  if (random.chance(0.05)) random.fill(g.memory.subarray(ring.data, ring.base + DATA + 200));
  ring.kick();
}

/** Takes what has been answered. False when the connection is over. */
function drain(g: Guest): boolean {
  for (;;) {
    const reply = g.client.receive(0);
    if (reply === "closed") return false;
    if (reply === "silent") return true;
    assert.equal(reply.flags, Flag.VERSION | Flag.REPLY, "every reply is well-formed");
  }
}

row("random streams of messages, descriptors and chains", {}, (program) => {
  const random = new Random();
  console.log(`random: RINGSIDE_SEED=${random.seed}`);
  const objects = assortment();
  const eventfds = [createEventFd(), createEventFd(), blockingEventFd()];
  let sent = 0;
  let ended = 0;
  for (let connections = 1; sent < MESSAGES; connections++) {
    const until = random.pick(["running", "running", "running", "memory", "features"] as const);
    {
      using g = guest({ until, queues: RINGS });
      const kicks = g.rings.map((ring) => ring.kickFd);
      const maker = new GarbageMaker(random, g.memfd, [...eventfds, ...kicks], objects);
      for (let i = 0; i < PER_CONNECTION; i++) {
        const { code, payload, ...options } = maker.next();
        sent++;
        if (!g.client.send(code, payload, options) || !drain(g)) {
          ended++;
          break;
        }
        if (random.chance(0.3)) scribble(g, random.pick(g.rings), random);
      }
    }
    assert.ok(program.alive, `alive after ${sent} messages`);
    if (connections % 20 === 0) serves(program);
  }
  console.log(`random: ${sent} messages, ${ended} connections ended by the back-end`);
  for (const fd of [...objects, ...eventfds]) fd.close();
  assert.equal(statSync(program.image).size, DISK_SIZE);
});
