/**
 * What the data plane allocates per request. Rings and devices are driven in this process with a
 * million requests each; at last the whole back-end is, by an independent front-end on its socket.
 * `--json` prints the figures for tests/bench/allocation.test.ts.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Backend, openBackend, openBackends } from "../core/backend.ts";
import type { Chain } from "../core/chain.ts";
import type { Device } from "../core/device.ts";
import { mask, RingFeature } from "../core/features.ts";
import { Log } from "../core/log.ts";
import { Loop } from "../core/loop.ts";
import type { SplitQueue } from "../core/split.ts";
import blk from "../devices/blk/mod.ts";
import { Counter } from "../devices/net/counters.ts";
import type { NetDevice } from "../devices/net/device.ts";
import net from "../devices/net/mod.ts";
import { listenUnix, runtime } from "../ffi/mod.ts";
import { runVublk } from "../tests/tools/vublk.ts";
import { serve } from "./lib/drain.ts";
import { memoryFolder, removeFolder } from "./lib/files.ts";
import { type Allocation, makeMeter, measureAllocation } from "./lib/heap.ts";
import { Report } from "./lib/report.ts";
import { CAPACITY, RingFixture, type RingFixtureOptions } from "./lib/ring-fixture.ts";

const { values: options } = parseArgs({
  options: {
    requests: { type: "string", default: "1000000" },
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});
const total = options.quick ? 200_000 : Number(options.requests);
const meter = await makeMeter();
const results: Record<string, Allocation> = {};

type Handle = (chain: Chain, queue: SplitQueue) => number;

/** Serves batches of `fixture` and measures. `flush` ends each batch. */
function measureQueue(
  name: string,
  { index = 0, ...shape }: RingFixtureOptions & { index?: number },
  handle?: Handle,
  flush: (queue: SplitQueue) => void = () => {},
): void {
  using fixture = new RingFixture(shape);
  const queue = fixture.makeQueue(() => {}, index);
  results[name] = measureAllocation(meter, total, () => {
    fixture.offer();
    if (handle === undefined) return serve(queue);
    let done = 0;
    for (; queue.next(); done++) queue.complete(queue.chain.head, handle(queue.chain, queue));
    flush(queue);
    queue.publish();
    return done;
  });
}

const netDefaults = { queuePairs: 1, vlan: [], ageing: 300 };
const RECEIVE = 0;
const TRANSMIT = 1;

function blkOptions(blkFile: string) {
  return {
    ...{ blkFile, readOnly: false, direct: false, numQueues: 1, serial: "bench" },
    ...{ logicalBlockSize: 512, cache: "writeback" },
  };
}

async function withBackend<T>(
  blkFile: string,
  use: (backend: Backend, loop: Loop) => T | Promise<T>,
): Promise<T> {
  using loop = new Loop();
  const backend = await openBackend(blk, blkOptions(blkFile), { loop, log: new Log() });
  try {
    return await use(backend, loop);
  } finally {
    await backend.close();
  }
}

function measureDevice(name: string, device: Device, write: boolean): void {
  measureQueue(name, { indirect: true, write }, (chain, queue) => {
    const written = device.handle!(chain, queue);
    if (written < 0) throw new Error(`${name}: the device answers ${written}`);
    return written;
  });
}

/** Frames that the first of some devices sends, and the last one receives if it gets any. */
async function measureNet(name: string, side: object, ports = 1): Promise<void> {
  const options = { switch: false, loopback: false, null: false, ...netDefaults, ...side };
  using loop = new Loop();
  const contexts = Array.from({ length: ports }, () => ({ loop, log: new Log() }));
  const backends = await openBackends(net, options, contexts);
  const [sender, receiver] = [backends[0]!.device, backends.at(-1)!.device];
  for (const { device } of backends) device.negotiated!(mask(RingFeature.VERSION_1));
  using buffers = new RingFixture();
  const receiving = buffers.makeQueue(() => {}, RECEIVE);
  receiver.started!(receiving);
  buffers.offer();
  measureQueue(
    name,
    { frames: 1500, index: TRANSMIT },
    (chain, queue) => {
      const written = sender.handle!(chain, queue);
      if (written !== 0) throw new Error(`${name}: the device answers ${written}`);
      return written;
    },
    (queue) => {
      sender.flush!(queue);
      buffers.offer();
    },
  );
  const { counters } = sender as NetDevice;
  if (counters[Counter.TX_FRAMES]! < total || counters[Counter.TX_DROPPED]! > 0) {
    throw new Error(`${name}: frames were lost`);
  }
  receiver.stopping!(receiving);
  for (const backend of backends) await backend.close();
}

/** The whole back-end, on a socket: what each wake-up allocates counts here too. */
async function measureProgram(name: string, folder: string, blkFile: string): Promise<void> {
  await withBackend(blkFile, async (backend, loop) => {
    const socket = join(folder, "program.sock");
    backend.listen(listenUnix(socket));
    const load = ["-w", "mixed", "-d", "64"];
    let made = 0;
    let counting = false;
    // Short enough for no collection to fall between two looks.
    const look = loop.every(meter.unit === "objects" ? 10 : 1000, () => {
      if (counting) made += meter.allocated();
    });
    const measure = async (): Promise<void> => {
      await runVublk(socket, [...load, "-n", `${total}`]);
      const before = meter.used();
      meter.allocated();
      counting = true;
      await runVublk(socket, [...load, "-n", `${total}`]);
      counting = false;
      made += meter.allocated();
      const growth = meter.used() - before;
      results[name] = { unit: meter.unit, perRequest: made / total, growth };
    };
    const measured = measure().finally(() => loop.stop());
    await loop.run();
    look[Symbol.dispose]();
    await measured;
  });
}

const folder = memoryFolder();
try {
  const file = join(folder, "disk.img");
  writeFileSync(file, "");
  truncateSync(file, CAPACITY);
  let kept: object | null = null;
  measureQueue("control: one object per request", {}, (chain) => {
    kept = { head: chain.head };
    return chain.writableBytes;
  });
  if (kept === null) throw new Error("the control did not run");
  measureQueue("ring, direct", {});
  measureQueue("ring, indirect", { indirect: true });
  measureQueue("ring, direct, IOMMU", { iommu: true });
  measureQueue("ring, indirect, IOMMU", { indirect: true, iommu: true });
  for (const store of [`null:${CAPACITY}`, `ram:${CAPACITY}`, file]) {
    const kind = store === file ? "file" : store.replace(/:.*/, "");
    await withBackend(store, ({ device }) => {
      for (const write of [false, true]) {
        measureDevice(`blk, ${kind}, ${write ? "writes" : "reads"}`, device, write);
      }
    });
  }
  await measureNet("net, null", { null: true });
  await measureNet("net, loopback", { loopback: true });
  await measureNet("net, switch", { switch: true }, 2);
  await measureProgram("program, file, mixed, depth 64", folder, file);
} finally {
  removeFolder(folder);
}

if (options.json) console.log(JSON.stringify(results));
else {
  const unit = meter.unit;
  const report = new Report(`allocation-${runtime.name}`);
  report.section(
    `Allocation under ${runtime.name} ${runtime.version}, over ${total} requests`,
    Object.entries(results).map(([name, { perRequest, growth }]) => ({
      what: name,
      [`${unit} per request`]: perRequest.toFixed(unit === "bytes" ? 2 : 4),
      "heap growth, KiB": (growth / 1024).toFixed(0),
    })),
    results,
  );
  if (!options.quick) report.save();
}
process.exit(0);
