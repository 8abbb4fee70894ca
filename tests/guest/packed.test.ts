/**
 * vhost-user-blk with packed rings under QEMU. The firmware finds the disks first and starts them
 * with split rings; Linux then uses packed ones on the same connection.
 */
import assert from "node:assert/strict";
import { RingFeature } from "../../core/features.ts";
import {
  checkFileSystem,
  checkIo,
  checkSmallReads,
  checkStopAndCont,
  featuresOf,
  resetAfterWrite,
  serveDisks,
} from "./disk-io.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { full } from "./lab.ts";
import { scenario } from "./scenario.ts";

const own = scenario("packed rings under QEMU");
const { folder, step, owns, overlookFirmware, end } = own;
const unsupported = { notWithStandIn: "it has no packed rings" };
let guest: Guest;

/** Disks by name: how QEMU's device differs from the default. */
const disks = {
  vda: "num-queues=2",
  vdb: "num-queues=1,indirect_desc=off",
  vdc: "num-queues=1,event_idx=off,queue-size=64",
} as const;
const names = Object.keys(disks) as (keyof typeof disks)[];
/** A guest without a processor of its own takes a second for a megabyte. */
const mib = full ? 8 : 2;

step(
  "Linux takes packed rings where the firmware had split ones",
  async () => {
    const devices = await serveDisks(own, disks, "packed=on");
    guest = owns("guest", await bootGuest({ folder, devices }));
    overlookFirmware();
    for (const name of names) {
      const has = await featuresOf(guest, name);
      assert.ok(has(RingFeature.RING_PACKED), `${name} is packed`);
      assert.equal(has(RingFeature.INDIRECT_DESC), name !== "vdb", name);
      assert.equal(has(RingFeature.EVENT_IDX), name !== "vdc", name);
    }
  },
  unsupported,
);

step(
  "what is written reads back equal, with any kind of descriptors and events",
  async () => {
    for (const flags of ["", "oflag=direct"]) {
      for (const name of names) await checkIo(guest, name, { mib, flags });
    }
  },
  unsupported,
);

step(
  "small reads go round the ring many times",
  async () => {
    const count = full ? 20_000 : 1000;
    for (const name of names) await checkSmallReads(guest, name, { size: 512, count });
  },
  unsupported,
);

step(
  "mkfs.ext4, file copies and e2fsck -f work",
  async () => {
    for (const name of full ? names : (["vdb"] as const)) await checkFileSystem(guest, name);
  },
  unsupported,
);

step(
  "writes in progress survive stop and cont",
  () => checkStopAndCont(guest, { mib: 8, timeoutMs: 60_000 }),
  unsupported,
);

step(
  "the guest is up again and does I/O after system_reset",
  async () => {
    await resetAfterWrite(guest);
    overlookFirmware();
    for (const name of names) await checkIo(guest, name, { mib });
  },
  unsupported,
);

end();
