/** Logging of a disk in a process of its own while a guest moves away: split and packed rings. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { Inflight, U64 } from "../../core/payloads.ts";
import { frontEndMessages, ProtocolFeature } from "../../core/protocol.ts";
import {
  BlkDriver,
  type BlkOptions,
  BlkRequest,
  BlkStatus,
  DirtyBits,
  GuestMemory,
  Notifier,
  protocolFeatures,
  type RingPlace,
  ringFeatures,
  runWorkload,
  sendLog,
  sendLogSignal,
} from "../../frontend/mod.ts";
import { assertClean, BLOCK, drain, MIB, serveBlk, verifyDriver } from "../support/blk.ts";
import { mappingsOf, openFiles } from "../support/process-status.ts";
import type { Program } from "../support/program.ts";
import { pagesOf, union } from "./log-file.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const SIZE = 1024;
const LOG = "/memfd:ringside-log";
const M = frontEndMessages;

/** Each part on pages of its own. */
function placeOf(memory: GuestMemory, packed: boolean): RingPlace {
  return {
    descriptor: memory.allocate(16 * SIZE, BLOCK),
    available: memory.allocate(packed ? BLOCK : 6 + 2 * SIZE, BLOCK),
    used: memory.allocate(packed ? BLOCK : 6 + 8 * SIZE, BLOCK),
  };
}

interface Setting {
  readonly packed: boolean;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
}

function open(program: Program, { packed, eventIdx = true, indirect = true }: Setting) {
  const memory = new GuestMemory({ regions: 2, size: 4 * MIB });
  const off = mask(
    ...(eventIdx ? [] : [RingFeature.EVENT_IDX]),
    ...(indirect ? [] : [RingFeature.INDIRECT_DESC]),
  );
  const options: BlkOptions = {
    memory,
    packed,
    protocol: protocolFeatures | mask(ProtocolFeature.INFLIGHT_SHMFD),
    features: ringFeatures & ~off,
    ringSize: SIZE,
    depth: 16,
    maxBytes: 16 * 1024,
    vring: { place: placeOf(memory, packed) },
  };
  return BlkDriver.connect(program.socket, options);
}

/**
 * Reads into guest memory at `address`, or the slot's own if that is null, and waits until the back-end
 * rests. Returns where data and status byte are.
 */
function readTo(driver: BlkDriver, address: number | null, length: number) {
  const queue = queueOf(driver);
  const slot = queue.acquire();
  const own = queue.address(slot);
  if (address !== null) queue.place(slot, address);
  queue.submit(slot, BlkRequest.IN, 0, length);
  queue.publish();
  assert.ok(queue.wait());
  assert.equal(queue.take(), slot);
  assert.equal(queue.status(slot), BlkStatus.OK);
  queue.release(slot);
  driver.frontend.barrier();
  return { data: address ?? own, status: own + queue.maxBytes };
}

for (const packed of [false, true]) {
  describe(`logging of a disk with ${packed ? "packed" : "split"} rings`, () => {
    let program: Program;
    before(() => {
      // Each drain asks for kicks, and marks that. Whoever looks at the ring does so once in a while.
      program = serveBlk("ram:8M", ["--poll-us=0"]);
    });
    after(() => program[Symbol.dispose]());

    for (const eventIdx of [true, false]) {
      for (const indirect of [true, false]) {
        const how = `${indirect ? "indirect" : "direct"}, ${eventIdx ? "events" : "flags"}`;
        it(`marks what a request writes and nothing else (${how})`, () => {
          using driver = open(program, { packed, eventIdx, indirect });
          const { frontend } = driver;
          const { memory } = frontend;
          const { place } = queueOf(driver).vring.ring;
          using log = DirtyBits.of(memory, BLOCK);
          frontend.startLogging(log);
          readTo(driver, null, 512);
          log.take();
          const edge = memory.regions[1]!.plan.guestAddress;
          const slots = packed && !indirect ? 3 : 1;
          const targets = [null, edge - 512, edge - BLOCK - 512, edge - 3, memory.allocate(16384)];
          for (let n = 1; n < 800; n++) {
            const target = targets[n % targets.length]!;
            const length = 512 * (1 + (n % 32));
            const { data, status } = readTo(driver, target, length);
            const at = (n * slots) % SIZE;
            const ring = packed
              ? [pagesOf(place.descriptor + 16 * at, 16), pagesOf(place.used, 4)]
              : [
                  pagesOf(place.used + 4 + 8 * at, 8),
                  pagesOf(place.used + 2, 2),
                  pagesOf(place.used + (eventIdx ? 4 + 8 * SIZE : 0), 2),
                ];
            const expected = union(pagesOf(data, length), pagesOf(status, 1), ...ring);
            assert.deepEqual(log.take(), expected, `request ${n}`);
          }
          frontend.stopLogging();
          readTo(driver, null, 512);
          frontend.barrier();
          log.take();
          readTo(driver, null, 512);
          assert.deepEqual(log.take(), []);
        });
      }
    }

    for (const tracked of [false, true]) {
      const how = tracked ? ", with requests in flight recorded" : "";
      it(`is switched on and off under load and loses no request${how}`, () => {
        using driver = open(program, { packed });
        if (tracked) track(driver);
        const { frontend } = driver;
        using log = DirtyBits.of(frontend.memory);
        using other = DirtyBits.of(frontend.memory);
        using signal = Notifier.eventFd();
        const journal = verifyDriver(driver, { blocks: 512 });
        const changes = [
          () => frontend.startLogging(log),
          () => frontend.startLogging(other),
          () => sendLogSignal(frontend.connection, signal),
          () => queueOf(driver).vring.setAddresses(frontend.connection, false),
          () => queueOf(driver).vring.setAddresses(frontend.connection, true),
          () => frontend.stopLogging(),
          () => sendLog(frontend.connection, log),
        ];
        const rounds = full ? 2000 : 100;
        for (let round = 0; round < rounds; round++) {
          const queue = queueOf(driver);
          for (let slot = queue.acquire(); slot >= 0; slot = queue.acquire()) {
            queue.submit(slot, BlkRequest.IN, (slot * 8 + round) % 1024, BLOCK);
          }
          queue.publish();
          for (const change of changes) change();
          let done = 0;
          drain(queue, (slot) => {
            assert.equal(queue.status(slot), BlkStatus.OK);
            done++;
          });
          assert.equal(done, queue.depth);
          const result = runWorkload(driver, {
            operation: "mixed",
            order: "random",
            requests: 64,
            blocks: 512,
            seed: round,
            journal,
          });
          assertClean(result, 64);
        }
        assert.equal(queueOf(driver).vring.broken(), false);
        assert.ok(signal.take(), "the log's descriptor is signalled");
      });
    }

    it("lets a copy of memory follow while requests are in flight", () => {
      using driver = open(program, { packed });
      const { frontend } = driver;
      const { memory } = frontend;
      const queue = queueOf(driver);
      const journal = verifyDriver(driver, { blocks: 512 });
      using log = DirtyBits.of(memory);
      const copy = new Map<number, Uint8Array>();
      const pull = () => {
        for (const page of log.take()) {
          if (page * BLOCK < memory.regions[0]!.plan.guestAddress) continue;
          copy.set(page, memory.read(page * BLOCK, BLOCK));
        }
      };
      // The first pass takes everything.
      frontend.startLogging(log);
      for (const { plan } of memory.regions) {
        for (let at = 0; at < plan.size; at += BLOCK) {
          const address = plan.guestAddress + at;
          copy.set(address / BLOCK, memory.read(address, BLOCK));
        }
      }
      const blocks = new Map<number, number>();
      let submitted = 0;
      for (let round = 0; round < (full ? 5000 : 500); round++) {
        for (let slot = queue.acquire(); slot >= 0; slot = queue.acquire()) {
          const block = (submitted++ * 37) % 512;
          blocks.set(slot, block);
          queue.submit(slot, BlkRequest.IN, block * 8, BLOCK);
        }
        queue.publish();
        pull();
        for (let slot = queue.take(); slot >= 0; slot = queue.take()) {
          assert.ok(journal.matches(blocks.get(slot)!, queue.words(slot)));
          queue.release(slot);
        }
      }
      drain(queue);
      frontend.stop();
      pull();
      for (let slot = 0; slot < queue.depth; slot++) {
        const address = queue.address(slot);
        assert.deepEqual(copy.get(address / BLOCK), memory.read(address, BLOCK), `slot ${slot}`);
      }
      if (packed) return;
      const { used } = queue.vring.ring.place;
      for (const page of pagesOf(used, 4 + 8 * SIZE)) {
        assert.deepEqual(copy.get(page), memory.read(page * BLOCK, BLOCK), `used ring, ${page}`);
      }
    });

    it("ends with RESET_DEVICE, SET_OWNER and the connection, and nothing is left of the log", () => {
      const ends: [string, (driver: BlkDriver) => void][] = [
        ["RESET_DEVICE", ({ frontend }) => frontend.resetDevice()],
        ["SET_OWNER", ({ frontend }) => frontend.connection.command(M.SET_OWNER)],
        ["the connection", ({ frontend }) => frontend.reconnect()],
      ];
      for (const [what, end] of ends) {
        using driver = open(program, { packed });
        const { frontend } = driver;
        frontend.barrier();
        const files = openFiles(program.pid);
        using log = DirtyBits.of(frontend.memory);
        using signal = Notifier.eventFd();
        sendLog(frontend.connection, log);
        sendLogSignal(frontend.connection, signal);
        frontend.connection.command(
          M.SET_FEATURES,
          U64.encode({ value: frontend.features | mask(VhostFeature.LOG_ALL) }),
        );
        frontend.barrier();
        assert.equal(mappingsOf(program.pid, LOG), 1);
        readTo(driver, null, 512);
        assert.ok(signal.take());
        end(driver);
        frontend.barrier();
        assert.equal(mappingsOf(program.pid, LOG), 0, what);
        const left = openFiles(program.pid);
        const events = (map: Map<string, number>) => map.get("anon_inode:[eventfd]") ?? 0;
        assert.ok(events(left) <= events(files), what);
      }
      assert.ok(frontEndHas(program));
    });

    it("goes on after the back-end's connection was renewed", () => {
      using driver = open(program, { packed });
      const { frontend } = driver;
      using log = DirtyBits.of(frontend.memory);
      frontend.startLogging(log);
      readTo(driver, null, 512);
      frontend.reconnect();
      log.take();
      const { data } = readTo(driver, null, BLOCK);
      assert.ok(log.take().includes(data / BLOCK));
    });
  });
}

const queueOf = (driver: BlkDriver) => driver.queues[0]!;

/** Has the back-end record what is in flight, while its rings run. */
function track({ frontend, queues }: BlkDriver): void {
  const { connection } = frontend;
  const shape = Inflight.encode({ queues: queues.length, queueSize: SIZE });
  const { payload, fds } = connection.request(M.GET_INFLIGHT_FD, shape);
  connection.command(M.SET_INFLIGHT_FD, payload, fds);
  for (const fd of fds) fd.close();
}

/** The program serves, with the protocol feature. */
function frontEndHas(program: Program): boolean {
  using driver = BlkDriver.connect(program.socket);
  return driver.frontend.hasProtocol(ProtocolFeature.LOG_SHMFD);
}
