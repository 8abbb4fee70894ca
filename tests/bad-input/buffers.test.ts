import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { allBreak, type Case, UNMAPPED } from "./chains.ts";
import { MEMORY_SIZE, REGION_SIZE } from "./guest.ts";
import { type Descriptor, WRITE } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();

for (const packed of [false, true]) {
  const on = packed ? ", packed" : "";

  row(`R4 buffers across two adjacent regions work${on}`, {}, () => {
    using g = guest({ packed });
    const ring = g.ring(1);
    const border = REGION_SIZE;
    const data = randomBytes(4096);
    const [size, sector] = [4096, 700];
    const places = [border - 1, border - 4095, border - 8, border - 2048];
    for (const at of places) {
      for (const type of [RequestType.OUT, RequestType.IN]) {
        g.header(border - 8, type, sector);
        const write = type === RequestType.IN ? WRITE : 0;
        // The header is cut as well, unless the data lies there.
        const apart = at < border - 2000 || at === border - 1;
        const header = apart ? ring.data : border - 8;
        g.header(ring.data, type, sector);
        const place = apart ? at : border + 64;
        if (type === RequestType.OUT) g.memory.set(data, place);
        else g.memory.fill(0, place, place + size);
        g.memory[ring.data + 16] = 0xff;
        const chain = [
          { address: header, length: 16 },
          { address: place, length: size, flags: write },
          { address: ring.data + 16, length: 1, flags: WRITE },
        ];
        ring.offer(ring.chain(0, chain));
        ring.kick();
        assert.ok(ring.complete());
        assert.equal(g.memory[ring.data + 16], Status.OK, `type ${type} at ${at}`);
        if (type === RequestType.IN) {
          assert.deepEqual(Buffer.from(g.memory.subarray(place, place + size)), data);
        }
      }
    }
  });

  row(
    `R5 a buffer outside guest memory breaks the queue${on}`,
    { log: [/is not in guest memory from 0x1000000 on/, /beyond any guest memory/] },
    () => {
      const at = (address: number | bigint, length: number, flags: number): Case => ({
        what: `${length} bytes at 0x${address.toString(16)} with flags ${flags}`,
        make: (g, ring) => {
          const [header, , status] = g.buffers(ring, { type: flags ? 0 : 1, length: 512 });
          ring.offer(ring.chain(0, [header!, { address, length, flags }, status!]));
        },
      });
      for (const flags of [0, WRITE]) {
        allBreak(guest({ packed }), [
          at(UNMAPPED, 512, flags),
          at(MEMORY_SIZE, 1, flags),
          at(MEMORY_SIZE - 256, 512, flags),
          at(0, 0xffffffff, flags),
          at(2n ** 64n - 256n, 512, flags),
          at(2n ** 64n - 1n, 1, flags),
          at(2n ** 53n, 512, flags),
          at(2n ** 53n - 1n, 512, flags),
          at(2n ** 63n, 0xffffffff, flags),
        ]);
      }
    },
  );

  row(`R5 an empty buffer is nothing, wherever it is${on}`, {}, () => {
    using g = guest({ packed });
    const ring = g.ring(1);
    for (const address of [0, UNMAPPED, MEMORY_SIZE, 2 ** 52]) {
      const [header, data, status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
      const nothing = { address, length: 0 };
      const after = { ...nothing, flags: WRITE };
      ring.offer(ring.chain(0, [nothing, header!, nothing, after, data!, after, status!, after]));
      ring.kick();
      assert.ok(ring.complete());
      assert.equal(g.memory[ring.data + 16], Status.OK);
    }
  });

  row(
    `R6 buffers in the wrong order break the queue${on}`,
    { log: [/the device-readable buffer at .* follows a device-writable one/] },
    () => {
      const wrong: Case = {
        what: "the status before the header",
        make: (g, ring) => {
          const [header, , status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
          ring.offer(ring.chain(0, [status!, header!]));
        },
      };
      const between: Case = {
        what: "readable data behind the status",
        make: (g, ring) => {
          const [header, data, status] = g.buffers(ring, {
            type: RequestType.OUT,
            data: new Uint8Array(512),
          });
          ring.offer(ring.chain(0, [header!, status!, data!]));
        },
      };
      allBreak(guest({ packed }), [wrong, between]);
    },
  );

  row(
    `R6 requests without a whole header or without a status fail alone${on}`,
    {
      log: [
        /Dropped a request that has no room for its status/,
        /Refused a request: it has no whole header/,
      ],
    },
    () => {
      using g = guest({ packed });
      const ring = g.ring(1);
      /** Runs a chain and returns the used length and the status. */
      const run = (buffers: Descriptor[]) => {
        g.memory[ring.data + 16] = 0xff;
        ring.offer(ring.chain(0, buffers));
        ring.kick();
        assert.ok(ring.complete(), JSON.stringify(buffers));
        const { length } = ring.used(ring.seen - 1);
        return { length, status: g.memory[ring.data + 16]! };
      };
      const [header, data, status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
      const dropped = { length: 0, status: 0xff };
      const failed = { length: 1, status: Status.IOERR };
      assert.deepEqual(run([header!]), dropped, "no status");
      assert.deepEqual(run([header!, { ...status!, length: 0 }]), dropped, "an empty status");
      assert.deepEqual(run([{ ...header!, length: 0 }]), dropped, "nothing at all");
      assert.deepEqual(run([status!]), failed, "no header");
      assert.deepEqual(run([{ ...header!, length: 15 }, status!]), failed, "a short header");
      const writable = { ...header!, flags: WRITE };
      assert.equal(run([writable, status!]).status, Status.IOERR, "a writable header");
      // Wherever the cuts are, the last writable byte is the status.
      assert.equal(run([header!, status!, data!]).status !== 0xff, true);
      const parts = Array.from({ length: 16 }, (_, i) => ({ address: ring.data + i, length: 1 }));
      g.header(ring.data, RequestType.IN);
      assert.equal(run([...parts, data!, status!]).status, Status.OK, "a header of 16 buffers");
      const end = { address: MEMORY_SIZE - 1, length: 1, flags: WRITE };
      g.memory[MEMORY_SIZE - 1] = 0xff;
      run([header!, data!, end]);
      assert.equal(g.memory[MEMORY_SIZE - 1], Status.OK, "a status at the end of all memory");
      g.verify(ring);
    },
  );
}
