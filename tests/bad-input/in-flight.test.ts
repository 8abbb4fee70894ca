import assert from "node:assert/strict";
import { VringState } from "../../core/payloads.ts";
import { RequestType, SECTOR_SIZE, Status } from "../../devices/blk/wire.ts";
import { type Guest, memTable, state } from "./guest.ts";
import { HOLDING_SIZE } from "./holding-disk.ts";
import type { Ring } from "./ring.ts";
import { serves, suite } from "./row.ts";

const { row, guest } = suite({ device: "holding" });
/** Requests from here on are held until a flush. */
const HELD_SECTOR = HOLDING_SIZE / 2 / SECTOR_SIZE;

/** Offers a read that the device keeps, in descriptors 0 to 2. */
function hold(g: Guest, ring: Ring): void {
  const request = { type: RequestType.IN, sector: HELD_SECTOR, length: 512 };
  ring.offer(ring.chain(0, g.buffers(ring, request)));
  ring.kick();
  // Another queue's request shows that the first one was seen.
  g.io(g.ring(0), { type: RequestType.IN, length: 512 });
}

function flush(g: Guest): void {
  assert.equal(g.io(g.ring(0), { type: RequestType.FLUSH }), Status.OK);
}

row("V11 a memory table waits for requests in flight", {}, () => {
  using g = guest();
  const ring = g.ring(1);
  hold(g, ring);
  const changing = memTable([]);
  g.client.send("SET_MEM_TABLE", changing, { flags: 9 });
  assert.ok(g.client.silent());
  // Nothing is served any more, flushes neither: the request completes by itself in the end.
  const reply = g.client.receive();
  assert.ok(typeof reply !== "string");
  assert.equal(ring.usedIndex, 1);
  g.setMemory();
  for (const each of g.rings) g.restart(each);
  g.verifyAll();
});

row("V11 a connection that ends with requests in flight makes room for the next", {}, (program) => {
  for (const waiting of [false, true]) {
    {
      using g = guest();
      hold(g, g.ring(1));
      if (waiting) g.client.send("GET_VRING_BASE", state(1, 0));
    }
    assert.ok(program.idle(), "the back-end does not spin meanwhile");
    serves(program);
  }
});

row("V11 a ring can be set up anew while others have requests in flight", {}, () => {
  using g = guest({ queues: 3 });
  hold(g, g.ring(1));
  const third = g.ring(2);
  for (let i = 0; i < 20; i++) {
    g.restart(third);
    g.verify(third);
  }
  flush(g);
  assert.ok(g.ring(1).complete());
  g.verifyAll();
});

for (const packed of [false, true]) {
  const on = packed ? ", packed" : "";
  row(`V11 GET_VRING_BASE waits for requests in flight${on}`, {}, () => {
    using g = guest({ packed });
    const ring = g.ring(1);
    for (let round = 1; round < 4; round++) {
      hold(g, ring);
      // The num of the request means nothing.
      g.client.send("GET_VRING_BASE", state(1, 0xdead));
      assert.ok(g.client.silent(), "no answer while a request is in flight");
      assert.equal(ring.usedIndex, round - 1);
      // The other queue is not stopped.
      flush(g);
      const reply = g.client.receive();
      assert.ok(typeof reply !== "string");
      assert.deepEqual(VringState.decode(reply.payload), {
        index: 1,
        num: packed ? ((0x8000 + 3 * round) * 0x10001) >>> 0 : round,
      });
      assert.equal(ring.usedIndex, round, "the request is completed before the answer");
      assert.equal(g.memory[ring.data + 16], Status.OK);
      g.must("SET_VRING_KICK", state(1, 0), [ring.kickFd]);
    }
  });

  row(
    `R11 a head that is offered while it is in flight breaks the queue${on}`,
    {
      log: [
        packed
          ? /the chain from slot 3 has buffer id 0, which is in flight/
          : /descriptor 0 was made available again while in flight/,
      ],
    },
    () => {
      using g = guest({ packed });
      const ring = g.ring(1);
      hold(g, ring);
      ring.offer(0);
      ring.kick();
      assert.ok(ring.broken());
      assert.equal(ring.usedIndex, 0);
      flush(g);
      assert.ok(ring.complete(), "the one in flight is completed all the same");
      g.restart(ring);
      g.verify(ring);
      // Twice in one batch.
      const request = { type: RequestType.IN, sector: HELD_SECTOR, length: 512 };
      const head = ring.chain(0, g.buffers(ring, request));
      ring.offer(head, head);
      ring.kick();
      assert.ok(ring.broken());
      flush(g);
      g.restart(ring);
      g.verify(ring);
    },
  );
}
