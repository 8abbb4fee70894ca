import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { mask } from "../../core/features.ts";
import { ProtocolFeature as P } from "../../core/protocol.ts";
import { usable, withheld } from "../../core/withheld.ts";

describe("Features that are withheld", () => {
  test("are named as in the specifications, in either way of writing, and may be of both kinds", () => {
    const device = { MQ: 12, CONFIG_WCE: 11 };
    assert.deepEqual(withheld([], device), { virtio: 0n, protocol: 0n });
    assert.deepEqual(withheld(["ring-packed", "config-wce", "inflight-shmfd"], device), {
      virtio: mask(34, 11),
      protocol: mask(P.INFLIGHT_SHMFD),
    });
    assert.deepEqual(withheld(["mq"], device), { virtio: mask(12), protocol: mask(P.MQ) });
    assert.deepEqual(withheld(["log-all", "protocol-features"], {}).virtio, mask(26, 30));
    assert.equal(withheld(["RING_PACKED"], device).virtio, mask(34));
    assert.throws(() => withheld(["ring-round"], device), /Cannot do without "ring-round"/);
    assert.throws(() => withheld(["flush"], device), RangeError);
  });

  test("take those with them that are of no use then", () => {
    const all = mask(...Object.values(P));
    assert.equal(usable(all), all);
    const inflight = mask(P.INFLIGHT_SHMFD);
    const bases = mask(P.GET_VRING_BASE_INFLIGHT, P.GET_VRING_BASE_SKIP_DRAIN);
    assert.equal(usable(all & ~inflight), all & ~inflight & ~bases);
    const middle = mask(P.GET_VRING_BASE_INFLIGHT);
    assert.equal(usable(all & ~middle), all & ~bases);
    const acks = mask(P.REPLY_ACK);
    assert.equal(usable(all & ~acks), all & ~acks & ~mask(P.INBAND_NOTIFICATIONS));
  });
});
