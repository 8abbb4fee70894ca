/** What entries of an IOTLB cost when there are very many. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { Iotlb } from "../../core/iotlb.ts";
import { TestGuest, userAddress } from "./guest.ts";

describe("Iotlb", () => {
  const guest = new TestGuest([{ guestAddress: 0x10000, size: 0x10000, at: 0 }]);
  after(() => guest[Symbol.dispose]());

  test("takes and loses 100 000 entries of 4 KiB without looking at the others", () => {
    const iotlb = new Iotlb(guest.memory);
    const target = userAddress(0x10000);
    const places = Array.from({ length: 100_000 }, (_, i) => ((i * 7919) % 100_000) * 8192);
    const cost = (from: number, to: number, body: (place: number) => void): number => {
      const begun = performance.now();
      for (let i = from; i < to; i++) body(places[i]!);
      return (performance.now() - begun) / (to - from);
    };
    const enter = (place: number) => iotlb.set(place, 4096, target, 3);
    cost(0, 20_000, enter);
    const early = cost(20_000, 30_000, enter);
    cost(30_000, 90_000, enter);
    const late = cost(90_000, 100_000, enter);
    assert.equal(iotlb.size, 100_000);
    const leave = cost(0, 100_000, (place) => void iotlb.remove(place, place + 4096));
    assert.equal(iotlb.size, 0);
    // Moving all entries behind the new one would take some ten microseconds, walking them more.
    assert.ok(late < early * 4 + 0.01, `${late} ms after ${early} ms`);
    assert.ok(leave < 0.05, `${leave} ms`);
  });
});
