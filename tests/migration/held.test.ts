/** Requests that the device holds while logging is switched on and off. */
import assert from "node:assert/strict";
import { mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { LogArea, VringAddr } from "../../core/payloads.ts";
import { Flag, ProtocolFeature, VRING_LOG } from "../../core/protocol.ts";
import { RequestType, SECTOR_SIZE, Status } from "../../devices/blk/wire.ts";
import { u64 } from "../bad-input/client.ts";
import {
  allRingFeatures,
  type Guest,
  MEMORY_SIZE,
  protocolMask,
  ringAddresses,
} from "../bad-input/guest.ts";
import { HOLDING_SIZE } from "../bad-input/holding-disk.ts";
import type { Ring } from "../bad-input/ring.ts";
import { suite } from "../bad-input/row.ts";
import { LogFile } from "./log-file.ts";

const { row, guest } = suite({ device: "holding" });
/** Requests from here on are held until a flush, or for a while. */
const HELD_SECTOR = HOLDING_SIZE / 2 / SECTOR_SIZE;
const LOG_SIZE = MEMORY_SIZE / 4096 / 8;

/** Offers a read that the device keeps. */
function hold(g: Guest, ring: Ring): void {
  const request = { type: RequestType.IN, sector: HELD_SECTOR, length: 4096 };
  ring.offer(ring.chain(0, g.buffers(ring, request)));
  ring.kick();
  // Another queue's request shows that the first one was seen.
  g.io(g.ring(0), { type: RequestType.IN, length: 512 });
}

for (const packed of [false, true]) {
  const kind = packed ? "packed" : "split";
  const features = allRingFeatures | (packed ? mask(RingFeature.RING_PACKED) : 0n);
  const protocol = protocolMask | mask(ProtocolFeature.LOG_SHMFD);

  /** Sends a message while a request is held: the answer comes after that is completed. */
  const whileHeld = (
    g: Guest,
    ring: Ring,
    name: "SET_FEATURES" | "SET_VRING_ADDR",
    data: Uint8Array,
  ) => {
    hold(g, ring);
    g.client.send(name, data, { flags: Flag.VERSION | Flag.NEED_REPLY });
    assert.ok(g.client.silent(), `${name} waits for what is in flight`);
    const reply = g.client.receive();
    assert.ok(typeof reply !== "string" && reply.payload[0] === 0);
    assert.equal(g.memory[ring.data + 16], Status.OK);
    assert.ok(ring.complete(), "nothing is lost");
  };

  row(
    `logging is switched under requests that are held, and all of them are marked (${kind})`,
    {},
    () => {
      using g = guest({ packed, protocol });
      using file = new LogFile(LOG_SIZE);
      const ring = g.ring(1);
      const page = (ring.data + 4096) / 4096;
      const area = LogArea.encode({ size: BigInt(LOG_SIZE), offset: 0n });
      assert.equal(g.client.ack("SET_LOG_BASE", area, [file.fd]), "ok");
      whileHeld(g, ring, "SET_FEATURES", u64(features | mask(VhostFeature.LOG_ALL)));
      const before = new Set(file.take());
      assert.ok(
        !before.has(page),
        "what came before is not logged: nobody has copied anything yet",
      );
      const fields = VringAddr.decode(ringAddresses(ring));
      const logged = VringAddr.encode({ ...fields, flags: VRING_LOG, log: BigInt(ring.base) });
      whileHeld(g, ring, "SET_VRING_ADDR", logged);
      assert.ok(file.take().includes(page));
      whileHeld(g, ring, "SET_FEATURES", u64(features));
      assert.ok(file.take().includes(page), "the last one belongs to the log still");
      for (const each of g.rings) g.verify(each);
      assert.deepEqual(file.take(), []);
    },
  );
}
