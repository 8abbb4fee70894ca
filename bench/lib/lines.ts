/** What bench/blk.ts measures: one line for each kind of work, with its contenders and its target. */
import { DEFAULT_POLL_US } from "../../core/polling.ts";
import { type Contender, cLoop, nullPeers, qemu, ringside } from "./contenders.ts";
import { diskFolder, memoryFolder } from "./files.ts";

/** What ours has to reach, relative to the best of the others. */
export interface Target {
  /** Requests per second, at least. */
  readonly iops: number;
  /** Processor time per request, at most. */
  readonly cpu?: number;
}

/** One kind of work. */
export interface Line {
  readonly name: string;
  readonly title: string;
  /** What vublk_bench is to do, but for `-d`. */
  readonly load: string;
  readonly depths: readonly number[];
  /** Where the file lies and the sockets are. */
  readonly makeFolder: () => string;
  /** False when there is no file to fill. */
  readonly file: boolean;
  /** Bytes that the file is filled with at a time. */
  readonly piece?: number;
  /** What vublk_bench is to do before everything else. */
  readonly first?: string;
  contenders(runtimes: readonly string[]): Contender[];
  target(depth: number): Target;
}

const RANDOM_READS = "-w randread -b 4k";
const RANDOM_WRITES = "-w randwrite -b 4k";
/** A disk without a file: large enough for its blocks not to stay in the processor's cache. */
const DISK_BYTES = 256 * 2 ** 20;
/** Both sides look at the rings all the time. */
const ALWAYS = 1_000_000;

const AIO = ["threads", "io_uring"] as const;

const tmpfs = {
  makeFolder: memoryFolder,
  file: true,
  contenders: (runtimes: readonly string[]) => [
    ...runtimes.map((name) => ringside(name)),
    ...qemu(AIO),
  ],
};

const disk = {
  makeFolder: diskFolder,
  file: true,
  // Through the page cache of a disk, io_uring is the one to beat.
  contenders: (runtimes: readonly string[]) => [
    ...runtimes.map((name) => ringside(name)),
    ...qemu(["io_uring"]),
  ],
};

/** Depth 1, where looking for requests should tell. */
const looking = {
  makeFolder: memoryFolder,
  file: true,
  contenders: (runtimes: readonly string[]) => [
    ...runtimes.flatMap((name) =>
      [[], ["--poll-us=0"]].map((options) => ringside(name, { options })),
    ),
    ...qemu(["io_uring"]),
  ],
};

const direct = {
  makeFolder: diskFolder,
  file: true,
  contenders: (runtimes: readonly string[]) => [
    ...runtimes.map((name) => ringside(name, { options: ["--direct"] })),
    ...qemu(["native", "io_uring"], true),
  ],
};

/** Disks without a file, which need a folder for their sockets only. */
const diskless = (store: string, options: readonly string[], peers: () => Contender[]) => ({
  makeFolder: memoryFolder,
  file: false,
  contenders: (runtimes: readonly string[]) => [
    ...runtimes.map((name) => ringside(name, { store, options })),
    ...peers(),
  ],
});

const ram = `ram:${DISK_BYTES}`;
/** What was never written is read from one page of zeros, which is always in the cache. */
const writeAll = `-w write -b 1m -d 4 -n ${DISK_BYTES / 2 ** 20}`;
const fixed = (iops: number, cpu?: number) => () => (cpu === undefined ? { iops } : { iops, cpu });

export const lines: readonly Line[] = [
  {
    name: "tmpfs",
    title: "Random reads of a file on tmpfs",
    load: RANDOM_READS,
    depths: [1, 32, 128],
    ...tmpfs,
    target: (depth) => (depth === 1 ? { iops: 2 } : { iops: 2.5, cpu: 0.6 }),
  },
  {
    name: "disk",
    title: "Random reads of a page-cached file on disk",
    load: RANDOM_READS,
    depths: [1, 32, 128],
    ...disk,
    target: (depth) => (depth === 1 ? { iops: 2 } : { iops: 1.5, cpu: 0.7 }),
  },
  {
    name: "writes-tmpfs",
    title: "Random writes to a file on tmpfs",
    load: RANDOM_WRITES,
    depths: [32],
    ...tmpfs,
    target: fixed(2.5),
  },
  {
    name: "writes-disk",
    title: "Random writes to a page-cached file on disk",
    load: RANDOM_WRITES,
    depths: [32],
    ...disk,
    // A file that was written in large pieces is cached in large folios, and ext4 then takes 40 us for
    // a write of 4 KiB, whoever writes.
    piece: 4096,
    target: fixed(1.5),
  },
  {
    name: "queues",
    title: "Random reads of a file on tmpfs, two queues",
    load: `${RANDOM_READS} -q 2`,
    depths: [32],
    ...tmpfs,
    target: fixed(2),
  },
  {
    name: "polled-tmpfs",
    title: "Random reads of a file on tmpfs, the front-end polls",
    load: `${RANDOM_READS} -p`,
    depths: [32],
    ...tmpfs,
    target: fixed(2.5),
  },
  {
    name: "polled-disk",
    title: "Random reads of a page-cached file on disk, the front-end polls",
    load: `${RANDOM_READS} -p`,
    depths: [32],
    ...disk,
    target: fixed(1.5),
  },
  {
    name: "looking",
    title: "Random reads of a file on tmpfs, with and without looking for requests",
    load: RANDOM_READS,
    depths: [1, 32],
    ...looking,
    target: fixed(2),
  },
  {
    name: "direct",
    title: "Random reads of a file on disk, past the page cache",
    load: RANDOM_READS,
    depths: [32],
    ...direct,
    target: fixed(1),
  },
  {
    name: "null",
    title: "Random reads of a disk that does nothing",
    load: RANDOM_READS,
    depths: [32, 128],
    ...diskless(`null:${DISK_BYTES}`, [], nullPeers),
    target: fixed(1),
  },
  {
    name: "ram",
    title: "Random reads of a disk in memory, against C",
    load: RANDOM_READS,
    depths: [1, 32, 128],
    first: writeAll,
    ...diskless(ram, [], () => [cLoop(DISK_BYTES, DEFAULT_POLL_US)]),
    target: (depth) => ({ iops: depth > 32 ? 0.85 : 0.9 }),
  },
  {
    name: "ram-polled",
    title: "Random reads of a disk in memory, against C, both sides poll",
    load: `${RANDOM_READS} -p`,
    depths: [32],
    first: writeAll,
    ...diskless(ram, [`--poll-us=${ALWAYS}`], () => [cLoop(DISK_BYTES, ALWAYS)]),
    target: fixed(0.7),
  },
  {
    name: "sequential-reads",
    title: "Sequential reads of 128 KiB of a file on tmpfs",
    load: "-w read -b 128k",
    depths: [8],
    ...tmpfs,
    target: fixed(1.2),
  },
  {
    name: "sequential-writes",
    title: "Sequential writes of 128 KiB to a file on tmpfs",
    load: "-w write -b 128k",
    depths: [8],
    ...tmpfs,
    target: fixed(1.2),
  },
];
