/** What is negotiated about rings beyond their kind: order, resets, and running empty. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { has, mask, RingFeature } from "../../core/features.ts";
import {
  Frontend,
  type FrontendOptions,
  RngDriver,
  ringFeatures,
  type Vring,
} from "../../frontend/mod.ts";
import { launcher, Program } from "../support/program.ts";

const REQUESTS = 3000;
const SIZE = 16;

const kinds: Readonly<Record<string, FrontendOptions>> = {
  split: {},
  packed: { packed: true },
  "split without EVENT_IDX": { features: ringFeatures & ~mask(RingFeature.EVENT_IDX) },
  "packed without EVENT_IDX": {
    packed: true,
    features: ringFeatures & ~mask(RingFeature.EVENT_IDX),
  },
};

describe("rings used in order", () => {
  let program: Program;
  before(() => {
    const device = fileURLToPath(new URL("shuffling-rng.ts", import.meta.url));
    program = new Program([launcher("ringside"), device, "--socket-path=SOCKET"]);
  });
  after(() => program[Symbol.dispose]());

  /** Keeps the ring busy and returns how often a completion came before an older one's. */
  function overtaken(options: FrontendOptions): number {
    using frontend = Frontend.open(program.socket, options);
    const vring = frontend.addVring(0, { size: SIZE });
    const { ring } = vring;
    frontend.start();
    const buffer = frontend.memory.allocate(4096);
    let sent = 0;
    let done = 0;
    let odd = 0;
    const open: number[] = [];
    const send = (): void => {
      while (sent < REQUESTS && ring.freeDescriptors >= 3) {
        ring.clear();
        for (let i = 0; i < 1 + (sent % 3); i++) ring.push(buffer + 16 * i, 16, true);
        ring.add(sent);
        open.push(sent++);
      }
      vring.publish();
    };
    while (done < REQUESTS) {
      send();
      assert.ok(vring.wait(), "completions come");
      while (ring.next()) {
        if (open[0] !== ring.token) odd++;
        assert.equal(ring.written, 16 * (1 + (ring.token % 3)));
        open.splice(open.indexOf(ring.token), 1);
        done++;
      }
    }
    assert.equal(frontend.stopVring(vring), ring.base);
    return odd;
  }

  for (const [kind, options] of Object.entries(kinds)) {
    it(`complete in order, whatever the device does, ${kind}`, () => {
      assert.equal(overtaken({ ...options, inOrder: true }), 0);
      assert.ok(overtaken(options) > REQUESTS / 10, "without the feature they do not");
    });
  }

  it("are offered by devices that declare it only", () => {
    using other = new Program([launcher("vhost-user-rng"), "--socket-path=SOCKET"]);
    const offers = ({ socket }: Program): boolean => {
      using frontend = Frontend.open(socket);
      return has(frontend.agreed.offered, RingFeature.IN_ORDER);
    };
    assert.deepEqual([offers(program), offers(other)], [true, false]);
    assert.throws(() => Frontend.open(other.socket, { inOrder: true }), { fault: "refused" });
  });
});

describe("an entropy device's ring", () => {
  let program: Program;
  before(() => {
    program = new Program([launcher("vhost-user-rng"), "--socket-path=SOCKET", "--ring-reset"]);
  });
  after(() => program[Symbol.dispose]());

  /** Asks for `count` times 16 bytes without wanting to hear of it. */
  function ask(frontend: Frontend, vring: Vring, count: number): void {
    const { ring } = vring;
    const buffer = frontend.memory.allocate(16);
    ring.disableCalls();
    for (let i = 0; i < count; i++) {
      ring.clear();
      ring.push(buffer, 16, true);
      ring.add(i);
    }
    vring.publish();
    for (let done = 0; done < count; ) if (ring.next()) done++;
  }

  /** The same; returns whether the driver was told all the same. */
  function isTold(frontend: Frontend, vring: Vring, count: number): boolean {
    vring.call.take(0);
    ask(frontend, vring, count);
    return vring.call.take(300);
  }

  for (const [kind, options] of Object.entries(kinds)) {
    it(`tells of running empty only with NOTIFY_ON_EMPTY, ${kind}`, () => {
      for (const wanted of [false, true]) {
        const features = options.features ?? ringFeatures;
        const bit = wanted ? mask(RingFeature.NOTIFY_ON_EMPTY) : 0n;
        using frontend = Frontend.open(program.socket, { ...options, features: features | bit });
        const vring = frontend.addVring(0, { size: SIZE });
        frontend.start();
        // The first completions may be told in any case: nobody knows what the driver saw before.
        isTold(frontend, vring, 1);
        // It is a feature of split rings before virtio 1.0: it speaks of their suppression.
        assert.equal(isTold(frontend, vring, 3), wanted && !options.packed);
      }
    });
  }

  for (const packed of [false, true]) {
    it(`is reset and used again with RING_RESET, ${packed ? "packed" : "split"}`, () => {
      const features = ringFeatures | mask(RingFeature.RING_RESET);
      using frontend = Frontend.open(program.socket, { features, packed });
      assert.ok(has(frontend.features, RingFeature.RING_RESET));
      const first = frontend.addVring(0, { size: SIZE });
      frontend.start();
      for (let i = 0; i < 5; i++) ask(frontend, first, 3);
      // The driver resets the queue and sets it up anew, of another size.
      for (const size of [SIZE, 4, 64]) {
        frontend.stopVring(first);
        const again = frontend.addVring(0, { size });
        frontend.startVrings([again], [again.ring.base]);
        for (let i = 0; i < 30; i++) ask(frontend, again, 3);
        frontend.stopVring(again);
      }
    });

    it(`goes on from the base it stopped at, ${packed ? "packed" : "split"}`, () => {
      using driver = RngDriver.connect(program.socket, { packed, ringSize: packed ? 5 : 4 });
      const { frontend, queue } = driver;
      for (let i = 0; i < 200; i++) {
        assert.equal(driver.read(64, 1 + (i % 3)).length, 64);
        const base = frontend.stopVring(queue.vring);
        assert.equal(base, queue.vring.ring.base);
        frontend.startVrings([queue.vring], [base]);
      }
    });
  }
});
