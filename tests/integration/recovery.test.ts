/** Back-ends that are killed, or relieved, with requests in flight, and the next one that goes on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { connectUnix } from "../../ffi/mod.ts";
import {
  BlkDriver,
  type BlkOptions,
  type BlkQueue,
  BlkRequest,
  BlkStatus,
  Journal,
} from "../../frontend/mod.ts";
import { BLOCK, compare, drain, MIB, take } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program, root, until } from "../support/program.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const BLOCKS = 256;
const REPLAY = /Requests that were in flight are submitted again \(.*count=(\d+)/g;

function serveTardy(folder: Folder, image: string, name: string, ...args: string[]): Program {
  const device = join(root, "tests/support/tardy-disk.ts");
  const command = [launcher("ringside"), device, "--socket-path=SOCKET", `--blk-file=${image}`];
  return new Program([...command, ...args], { folder, socket: folder.at(name) });
}

const replayed = ({ log }: Program): number =>
  [...log.matchAll(REPLAY)].reduce((sum, [, count]) => sum + Number(count), 0);

/** Writes blocks, and reads and checks them, several at a time and in any order. */
class Traffic {
  readonly journal = new Journal(BLOCK, BLOCKS);
  readonly queue: BlkQueue;
  done = 0;
  readonly #jobs = new Map<number, { readonly block: number; readonly type: number }>();
  #random = 12345;

  constructor(queue: BlkQueue) {
    this.queue = queue;
  }

  fill(): void {
    for (let slot = this.queue.acquire(); slot >= 0; slot = this.queue.acquire()) {
      this.#random = (this.#random * 1103515245 + 12345) % 2 ** 31;
      const block = this.journal.take(this.#random % BLOCKS);
      const type = this.#random % 3 === 0 ? BlkRequest.IN : BlkRequest.OUT;
      if (type === BlkRequest.OUT) this.journal.write(block, this.queue.words(slot));
      else this.queue.data(slot, BLOCK).fill(0xdd);
      this.#jobs.set(slot, { block, type });
      this.queue.submit(slot, type, (block * BLOCK) / 512, BLOCK);
    }
    this.queue.publish();
  }

  readonly finish = (slot: number): void => {
    assert.equal(this.queue.status(slot), BlkStatus.OK);
    const { block, type } = this.#jobs.get(slot)!;
    if (type === BlkRequest.IN) {
      assert.ok(this.journal.matches(block, this.queue.words(slot)), `block ${block} is wrong`);
    }
    this.journal.done(block);
    this.done++;
  };

  /** Goes on until so many requests more are completed; the ring is kept full. */
  run(count: number): void {
    for (const end = this.done + count; this.done < end; ) {
      this.fill();
      assert.ok(this.queue.wait(), "requests are completed");
      take(this.queue, this.finish);
    }
  }
}

const settings = (packed: boolean): BlkOptions => ({
  inflight: true,
  packed,
  // A ring that comes round often, with chains of three descriptors where it is split.
  ringSize: packed ? 30 : 32,
  depth: 10,
  maxBytes: BLOCK,
  timeout: 20_000,
  features: mask(RingFeature.VERSION_1, RingFeature.EVENT_IDX),
});

for (const packed of [false, true]) {
  const kind = packed ? "packed" : "split";
  describe(`requests in flight on a ${kind} ring`, () => {
    it("are carried out by the next back-end when theirs is killed", () => {
      using folder = new Folder();
      const image = folder.image(MIB);
      let program = serveTardy(folder, image, "socket");
      try {
        using driver = BlkDriver.connect(program.socket, settings(packed));
        const traffic = new Traffic(driver.queues[0]!);
        let count = 0;
        const rounds = full ? 100 : 6;
        for (let round = 0; round < rounds; round++) {
          traffic.run(8 + round);
          traffic.fill();
          program.stop("SIGKILL");
          take(traffic.queue, traffic.finish);
          program = serveTardy(folder, image, "socket");
          driver.frontend.reconnect();
          drain(traffic.queue, traffic.finish);
          count += replayed(program);
        }
        assert.ok(count >= rounds, `${count} requests were replayed`);
        compare(driver, traffic.journal);
      } finally {
        program[Symbol.dispose]();
      }
    });

    it("are taken over by another back-end while theirs goes on living", () => {
      using folder = new Folder();
      const image = folder.image(MIB);
      // Slow enough that nothing of it is over before the ring is stopped.
      using first = serveTardy(folder, image, "first", "--delay=100");
      using second = serveTardy(folder, image, "second", "--delay=100");
      using driver = BlkDriver.connect(first.socket, settings(packed));
      const { frontend } = driver;
      assert.ok(frontend.hasProtocol(ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN));
      const traffic = new Traffic(driver.queues[0]!);
      const programs = [second, first];
      for (let round = 0; round < (full ? 20 : 3); round++) {
        traffic.run(5);
        const next = programs[round % 2]!;
        const before = replayed(next);
        const began = performance.now();
        const bases = frontend.stopAtOnce();
        assert.ok(performance.now() - began < 5000, "nothing is waited for");
        take(traffic.queue, traffic.finish);
        const open = traffic.queue.inFlight;
        frontend.reconnect(connectUnix(next.socket));
        frontend.start(bases);
        drain(traffic.queue, traffic.finish);
        until(() => (replayed(next) > before ? true : null), "requests to be taken over");
        assert.ok(replayed(next) - before <= open, "no more than were open");
      }
      compare(driver, traffic.journal);
    });
  });
}

describe("a back-end without in-flight tracking", () => {
  it("does not offer what depends on it, and cannot be asked for it", () => {
    using folder = new Folder();
    const args = ["--without=inflight-shmfd"];
    using program = serveTardy(folder, folder.image(MIB), "socket", ...args);
    using driver = BlkDriver.connect(program.socket, settings(false));
    const { agreed, inflight } = driver.frontend;
    const bits = [
      ProtocolFeature.INFLIGHT_SHMFD,
      ProtocolFeature.GET_VRING_BASE_INFLIGHT,
      ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN,
    ];
    assert.equal(agreed.offeredProtocol & mask(...bits), 0n);
    assert.equal(inflight, null);
  });
});
