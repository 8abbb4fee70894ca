/** The virtio block device (virtio 1.3, 5.2). */
import { type Static, type TObject, Type } from "typebox";
import { type AnyDevice, type Device, defineDevice, type Host } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { has } from "../../core/features.ts";
import { RequestHandler, type RequestLimits } from "./request.ts";
import type { Store } from "./store.ts";
import { openStore } from "./stores/mod.ts";
import { BlkConfig, BlkFeature, ID_SIZE, SECTOR_SIZE } from "./wire.ts";

export type { Store, StoreResult, Transfer } from "./store.ts";

/** How often a growing file is looked at, in milliseconds. */
const MEASURE_INTERVAL = 1000;

/** How long a queue that must not wait for its requests waits for the kernel, in milliseconds. */
const FINISH_LIMIT = 5_000;

/** Queues a front-end may use. QEMU wants one for each processor, whatever the config space says. */
const MAX_QUEUES = 128;
/** Buffers per request, so that one fits a ring of 128 with its header and status. */
const SEG_MAX = 126;
const MAX_DISCARD_SEGMENTS = 32;
/** Half a TiB: discarding costs nothing per byte. */
const MAX_DISCARD_SECTORS = 2 ** 30;
/** 32 MiB at once: where zeros have to be written, nobody waits long for it. */
const MAX_WRITE_ZEROES_SECTORS = 2 ** 16;
const MAX_WRITE_ZEROES_SEGMENTS = 1;

/** Options that every block device has, whatever it stores its data in. */
export const blkOptions = {
  readOnly: Type.Boolean({ default: false, description: "Refuse writes" }),
  numQueues: Type.Integer({
    default: 8,
    minimum: 1,
    maximum: 256,
    description: "Virtqueues the config space suggests to the driver",
  }),
  serial: Type.String({
    default: "ringside",
    maxLength: ID_SIZE,
    description: `Identifier of the disk, up to ${ID_SIZE} bytes`,
  }),
  logicalBlockSize: Type.Union([Type.Literal(512), Type.Literal(4096)], {
    default: 512,
    description: "Smallest unit the driver may address, in bytes",
  }),
  cache: Type.Union([Type.Literal("writeback"), Type.Literal("writethrough")], {
    default: "writeback",
    description: "Durability of a completed write: at the next flush, or at once",
  }),
};

type BlkOptions = Static<TObject<typeof blkOptions>>;

/** What a block device of its own store declares. */
export interface BlkDevice<O extends TObject> {
  /** The program's name, as `http-disk`. */
  readonly name: string;
  readonly summary: string;
  /** Options of the store, beside those of every block device. */
  readonly options: O;
  /** True when the store answers with promises. */
  readonly async?: boolean;
  readonly capabilities?: readonly string[];
  open(
    options: Static<O> & BlkOptions,
    host: Host<typeof BlkConfig.schema>,
  ): Store | Promise<Store>;
}

/** Makes a block device of anything that can store blocks. */
export function blkDevice<O extends TObject>(declared: BlkDevice<O>): AnyDevice {
  return defineDevice({
    type: "block",
    name: declared.name,
    id: 2,
    summary: declared.summary,
    options: Type.Object({ ...declared.options.properties, ...blkOptions }),
    capabilities: declared.capabilities ?? ["read-only"],
    features: BlkFeature,
    config: BlkConfig,
    queues: (options) =>
      Array.from({ length: Math.max(MAX_QUEUES, (options as BlkOptions).numQueues) }, (_, i) => ({
        name: `request ${i}`,
      })),
    minQueues: 1,
    async: declared.async ?? false,
    async open(options, host) {
      const settings = options as Static<O> & BlkOptions;
      const store = await declared.open(settings, host);
      try {
        return openBlk(store, settings, host);
      } catch (error) {
        store[Symbol.dispose]();
        throw error;
      }
    },
  });
}

function encodeSerial(serial: string): Uint8Array {
  const encoded = new TextEncoder().encode(serial);
  if (encoded.length > ID_SIZE) {
    throw new RangeError(`Cannot use the serial "${serial}": it has more than ${ID_SIZE} bytes`);
  }
  const padded = new Uint8Array(ID_SIZE);
  padded.set(encoded);
  return padded;
}

/** Sectors in whole logical blocks. */
function sectorsOf(size: number, blockSize: number): bigint {
  return BigInt(Math.floor(size / blockSize) * (blockSize / SECTOR_SIZE));
}

function configOf(store: Store, options: BlkOptions, writable: boolean) {
  const { logicalBlockSize, numQueues, cache } = options;
  const physical = Math.max(store.physicalBlockSize, logicalBlockSize);
  const alignment = physical / SECTOR_SIZE;
  return {
    capacity: sectorsOf(store.size, logicalBlockSize),
    segMax: SEG_MAX,
    blkSize: logicalBlockSize,
    physicalBlockExp: Math.log2(physical / logicalBlockSize),
    minIoSize: 1,
    wce: cache === "writeback" ? 1 : 0,
    numQueues,
    maxDiscardSectors: writable ? MAX_DISCARD_SECTORS : 0,
    maxDiscardSeg: writable ? MAX_DISCARD_SEGMENTS : 0,
    discardSectorAlignment: writable ? alignment : 0,
    maxWriteZeroesSectors: writable ? MAX_WRITE_ZEROES_SECTORS : 0,
    maxWriteZeroesSeg: writable ? MAX_WRITE_ZEROES_SEGMENTS : 0,
    writeZeroesMayUnmap: writable ? 1 : 0,
  };
}

function featuresOf(store: Store): (keyof typeof BlkFeature)[] {
  const always = ["SEG_MAX", "BLK_SIZE", "TOPOLOGY", "MQ", "FLUSH"] as const;
  if (store.readOnly) return [...always, "RO"];
  const discard = store.discard === undefined ? [] : (["DISCARD"] as const);
  const zeroes = store.writeZeroes === undefined ? [] : (["WRITE_ZEROES"] as const);
  return [...always, "CONFIG_WCE", ...discard, ...zeroes];
}

function openBlk(store: Store, options: BlkOptions, host: Host<typeof BlkConfig.schema>) {
  const { logicalBlockSize, serial, cache } = options;
  if (store.size < logicalBlockSize) {
    throw new Error(`Cannot serve a disk of ${store.size} bytes: a block has ${logicalBlockSize}`);
  }
  const limits: RequestLimits = {
    logicalBlockSize,
    maxDiscardSegments: MAX_DISCARD_SEGMENTS,
    maxWriteZeroesSegments: MAX_WRITE_ZEROES_SEGMENTS,
    maxDiscardSectors: MAX_DISCARD_SECTORS,
    maxWriteZeroesSectors: MAX_WRITE_ZEROES_SECTORS,
  };
  const handler = new RequestHandler({
    store,
    log: host.log,
    serial: encodeSerial(serial),
    limits,
  });
  const config = configOf(store, options, !store.readOnly);
  const offer = featuresOf(store);
  return { config, offer, device: makeDevice(store, handler, cache, logicalBlockSize, host) };
}

function makeDevice(
  store: Store,
  handler: RequestHandler,
  cache: BlkOptions["cache"],
  blockSize: number,
  host: Host<typeof BlkConfig.schema>,
): Device {
  let capacity = sectorsOf(store.size, blockSize);
  const measure = (): void => {
    const sectors = sectorsOf(store.measure?.() ?? store.size, blockSize);
    if (sectors === capacity || sectors === 0n) return;
    store.size = Number(sectors) * SECTOR_SIZE;
    capacity = sectors;
    host.log.info("The disk's capacity changed", { bytes: store.size });
    host.updateConfig({ capacity });
  };
  const timer = store.measure === undefined ? null : host.every(MEASURE_INTERVAL, measure);
  let wce = cache === "writeback";
  let flushes = true;
  const setWriteCache = (on: boolean): void => {
    wce = on;
    // A driver that does not know of flushes must not depend on them (virtio 1.3, 5.2.5.2).
    handler.writeCache = wce && flushes;
    host.updateConfig({ wce: wce ? 1 : 0 });
  };
  /** Whoever switches the cache off wants what it holds to be durable by then. */
  const flushed = (error: number): void => {
    if (error >= 0) return;
    setWriteCache(true);
    throw new ProtocolError(`Cannot switch the write cache off: flushing failed (${-error})`);
  };
  return {
    handle: (chain, queue) => handler.handle(chain, queue),
    flush: () => handler.submit(),
    // A handler that failed may have left something behind that its drain did not hand over.
    stopping: () => handler.submit(),
    abandoning: () => handler.finish(FINISH_LIMIT),
    negotiated(features) {
      flushes = has(features, BlkFeature.FLUSH);
      handler.writeCache = wce && flushes;
    },
    writeConfig(at, data) {
      if (at !== BlkConfig.offset.wce || data.length !== 1) {
        throw new ProtocolError("only the write cache's byte can be written");
      }
      const cached = wce;
      setWriteCache(data[0] === 1);
      if (!cached || wce) return;
      const result = store.flush();
      return typeof result === "number" ? flushed(result) : result.then(flushed);
    },
    reset: () => setWriteCache(cache === "writeback"),
    reload: measure,
    [Symbol.dispose]() {
      timer?.[Symbol.dispose]();
      store[Symbol.dispose]();
    },
  };
}

/** `vhost-user-blk`: a disk from a file, a block device, memory, or nothing. */
export const blk: AnyDevice = blkDevice({
  name: "blk",
  summary: "Block device: serves a file, a block device or memory as a disk",
  options: Type.Object({
    blkFile: Type.String({
      description: "What to serve: a file or block device, ram:SIZE, or null:SIZE",
    }),
    direct: Type.Boolean({
      default: false,
      description: "Bypass the host's page cache (O_DIRECT)",
    }),
    aio: Type.Union([Type.Literal("auto"), Type.Literal("preadv"), Type.Literal("io_uring")], {
      default: "auto",
      description: "How a file is read and written; auto takes what is faster and never waits",
    }),
  }),
  capabilities: ["blk-file", "read-only"],
  open: (options, host) => openStore(options, host),
});

export default blk;
