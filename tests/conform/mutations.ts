/** Mistakes, each with the checks that must notice it. */
import type { Mutation } from "./mutant.ts";

const SPLIT = "core/split.ts";
const PACKED = "core/packed.ts";
const VRING = "core/vring.ts";
const SETUP = "core/ring-setup.ts";

/** Mistakes of rings. */
export const ringMutations: readonly Mutation[] = [
  {
    name: "the used length is one short",
    caughtBy: ["rings.split-used-length", "blk.used-length"],
    edits: [[SPLIT, "this.used32[at + 1] = written;", "this.used32[at + 1] = written - 1;"]],
  },
  {
    name: "the used id is that of another chain",
    caughtBy: ["rings.split-one"],
    edits: [[SPLIT, "this.used32[at] = head;", "this.used32[at] = head ^ 1;"]],
  },
  {
    name: "the used index does not wrap at 65536",
    caughtBy: ["rings.split-wrap-index", "rings.split-wrap-65536"],
    edits: [
      [
        SPLIT,
        "this.#nextUsed = (this.#nextUsed + 1) & 0xffff;",
        "this.#nextUsed = (this.#nextUsed + 1) % 0xffff;",
      ],
    ],
  },
  {
    name: "some requests are completed twice",
    caughtBy: ["rings.split-used-once"],
    edits: [
      [
        SPLIT,
        "this.#nextUsed = (this.#nextUsed + 1) & 0xffff;",
        "this.#nextUsed = (this.#nextUsed + (this.#nextUsed % 16 === 15 ? 2 : 1)) & 0xffff;",
      ],
    ],
  },
  {
    name: "EVENT_IDX is not looked at again after kicks are asked for",
    caughtBy: ["rings.split-event-idx-kick"],
    edits: [[SPLIT, "return this.look(INDEX) !== at;", "return false;"]],
  },
  {
    name: "EVENT_IDX calls one completion late",
    caughtBy: ["rings.split-event-idx-call"],
    edits: [[SPLIT, "((next - event - 1) & 0xffff)", "((next - event - 2) & 0xffff)"]],
  },
  {
    name: "EVENT_IDX calls for everything",
    caughtBy: ["rings.split-event-idx-quiet"],
    edits: [[SPLIT, "return empty || first ||", "return true ||"]],
  },
  {
    name: "NO_INTERRUPT is ignored",
    caughtBy: ["rings.split-no-interrupt"],
    edits: [[SPLIT, "(this.look(FLAGS) & NO_INTERRUPT) === 0", "true"]],
  },
  {
    name: "indirect tables are taken without the feature",
    caughtBy: ["hostile.R3-indirect-not-accepted"],
    edits: [["core/queue.ts", "this.#tableLimit = options.indirect", "this.#tableLimit = true"]],
  },
  {
    name: "the USED flag of a slot is not looked at",
    caughtBy: ["hostile.R10-other-lap"],
    edits: [
      [
        PACKED,
        "if ((flags & OWNER) !== this.#availableFlags) return false;",
        "if ((flags & AVAIL) !== (this.#availableFlags & AVAIL)) return false;",
      ],
    ],
  },
  {
    name: "a list that goes across the end of its ring is taken for a cut one",
    caughtBy: ["hostile.R10-wrap"],
    edits: [[PACKED, "        owner ^= OWNER_BITS;\n", ""]],
  },
  {
    name: "a list without end ends the program",
    caughtBy: ["hostile.R2-endless-packed", "hostile.R2-endless-empty-packed"],
    edits: [
      [
        PACKED,
        "if (steps >= limit) throw overrun(first >> 2, limit);",
        "if (steps >= limit) process.exit(3);",
      ],
    ],
  },
];

/** Lengths of buffers are read once more, a while after they were checked. */
const readAgain = (file: string): Mutation["edits"] => [
  [
    file,
    "spans[span + 2] = length;",
    "for (let i = 0; i < 100_000; i++) Atomics.load(table, 0);\nspans[span + 2] = table[at + 2]!;",
  ],
  [file, "writableBytes += length;", "writableBytes += spans[span + 2]!;"],
];

/** Mistakes that only a driver shows that changes its rings while they are read. */
export const changeMutations: readonly Mutation[] = [
  {
    name: "lengths of a split ring are read twice",
    caughtBy: ["hostile.R7-changes"],
    attempts: 6,
    edits: readAgain(SPLIT),
  },
  {
    name: "lengths of a packed ring are read twice",
    caughtBy: ["hostile.R7-changes-packed"],
    attempts: 6,
    edits: readAgain(PACKED),
  },
];

const SPLIT_RECORDS = "core/inflight-split.ts";
const PACKED_RECORDS = "core/inflight-packed.ts";

/** Mistakes in the tracking of requests in flight. */
export const inflightMutations: readonly Mutation[] = [
  {
    name: "what was in flight is not submitted again on a split ring",
    caughtBy: ["inflight.killed-split"],
    slow: true,
    edits: [[SPLIT, "new Replay(this.#inflight?.replay)", "new Replay()"]],
  },
  {
    name: "what was in flight is not submitted again on a packed ring",
    caughtBy: ["inflight.killed-packed"],
    slow: true,
    edits: [[PACKED, "new Replay(this.#inflight?.replay)", "new Replay()"]],
  },
  {
    name: "what is completed stays recorded of a split ring",
    caughtBy: ["inflight.dropped-split", "inflight.killed-split"],
    slow: true,
    edits: [
      [
        SPLIT_RECORDS,
        "this.#bytes[FIRST_BYTE + this.#staged[i]! * RECORD_BYTES] = 0;",
        "this.#staged[i]!;",
      ],
    ],
  },
  {
    name: "what is completed stays recorded of a packed ring",
    caughtBy: ["inflight.dropped-packed", "inflight.killed-packed"],
    slow: true,
    edits: [[PACKED_RECORDS, "this.#bytes[(this.#staged[i]! + 1) * BYTES] = 0;", ";"]],
  },
];

const TRANSLATION = "core/translation.ts";

/** Mistakes that only show with an option: behind an IOMMU, and in drafts. */
export const optionMutations: readonly Mutation[] = [
  {
    name: "nothing is asked for",
    caughtBy: ["iotlb.miss", "iotlb.invalidate"],
    option: "--iommu",
    edits: [[TRANSLATION, "      this.#send(question);\n    });", "    });"]],
  },
  {
    name: "what is taken back is used on",
    caughtBy: ["iotlb.invalidate"],
    option: "--iommu",
    edits: [["core/iotlb.ts", "    this.#ranges.delete(start, end);\n    this.#forget();\n", ""]],
  },
  {
    name: "entries that are replaced stay in the cache",
    caughtBy: ["iotlb.moved"],
    option: "--iommu",
    edits: [["core/iotlb.ts", "this.#epoch = (this.#epoch + 1) | 0;", ""]],
  },
  {
    name: "permissions are not looked at",
    caughtBy: ["iotlb.read-only"],
    option: "--iommu",
    edits: [
      ["core/iotlb.ts", "(cache[at + ALLOWED]! & access) === access &&", ""],
      [
        "core/iotlb.ts",
        "if (!ranges.seek(address) || (ranges.access & access) !== access) return false;",
        "if (!ranges.seek(address)) return false;",
      ],
    ],
  },
  {
    name: "entries may lead anywhere",
    caughtBy: ["iotlb.M13-outside"],
    option: "--iommu",
    edits: [["core/handlers/iotlb.ts", "if (!iotlb.reaches(target, size)) {", "if (size < 0) {"]],
  },
  {
    name: "there are more queues by GET_BACKEND_SPECS than by GET_QUEUE_NUM",
    caughtBy: ["drafts.specs-queues"],
    option: "--draft=standalone",
    edits: [["core/drafts.ts", "maxQueues: queues.length,", "maxQueues: queues.length + 1,"]],
  },
  {
    name: "other features are announced than were accepted",
    caughtBy: ["drafts.vhost-pci"],
    option: "--draft=vhost-pci",
    edits: [
      [
        "core/drafts.ts",
        "session.announceFeatures(features)",
        "session.announceFeatures(features + 1n)",
      ],
    ],
  },
];

/** Mistakes in the life of vrings, and in messages. */
export const messageMutations: readonly Mutation[] = [
  {
    name: "requests in flight are not waited for",
    caughtBy: ["vrings.V11-drain"],
    slow: true,
    edits: [[VRING, "if (queue.inFlight === 0) return this.#idle();", "return this.#idle();"]],
  },
  {
    name: "the base is one too high",
    caughtBy: ["vrings.base", "vrings.restart"],
    edits: [[SETUP, "this.#base = queue.base;", "this.#base = (queue.base + 1) & 0xffff;"]],
  },
  {
    name: "a ring that starts is not looked at",
    caughtBy: ["handshake.requests-before-start"],
    edits: [
      [
        VRING,
        'this.#tellDevice("started");\n    this.scheduleDrain();',
        'this.#tellDevice("started");',
      ],
      [VRING, "      throw error;\n    }\n    this.scheduleDrain();", "      throw error;\n    }"],
    ],
  },
  {
    name: "kicks are lost once the ring was disabled",
    caughtBy: ["vrings.disable"],
    edits: [
      [
        VRING,
        "this.#kickWatch ??= this.#watch(",
        "if (this.#setup.base === 0) this.#kickWatch ??= this.#watch(",
      ],
      [
        VRING,
        'this.#tellDevice("started");\n    this.scheduleDrain();',
        'this.#tellDevice("started");\n    if (this.#setup.base === 0) this.scheduleDrain();',
      ],
    ],
  },
  {
    name: "a ring runs though it is disabled",
    caughtBy: ["handshake.disabled-ring"],
    edits: [[VRING, "this.#kicked && this.#enabled &&", "this.#kicked &&"]],
  },
  {
    name: "replaced descriptors stay open",
    caughtBy: ["vrings.V7-descriptors-closed"],
    edits: [
      ["core/notifier.ts", "    this.#fd?.close();\n    this.#fd = fd;", "    this.#fd = fd;"],
    ],
  },
  {
    name: "unexpected descriptors stay open",
    caughtBy: ["framing.F9-fds-on-payload"],
    edits: [
      [
        "core/connection.ts",
        "for (const fd of this.#fds.splice(0)) fd.close();\n  }",
        "this.#fds.splice(0);\n  }",
      ],
    ],
  },
  {
    name: "acknowledgements echo NEED_REPLY",
    caughtBy: ["framing.need-reply-not-echoed"],
    edits: [
      [
        "core/connection.ts",
        "this.#send(code, Flag.VERSION | Flag.REPLY, ",
        "this.#send(code, Flag.VERSION | Flag.REPLY | (code === 2 ? Flag.NEED_REPLY : 0), ",
      ],
    ],
  },
  {
    name: "a reply is sent before the one that is due",
    caughtBy: ["framing.order"],
    edits: [
      [
        "core/connection.ts",
        "this.#send(code, Flag.VERSION | Flag.REPLY, payload, fds);",
        "const send = () => this.#send(code, Flag.VERSION | Flag.REPLY, payload, fds);\n" +
          "    if (code === 1) setTimeout(send, 1);\n    else send();",
      ],
    ],
  },
  {
    name: "features that were not offered are accepted",
    caughtBy: ["negotiation.F13-unoffered-protocol", "negotiation.F14-unoffered-features"],
    edits: [["core/handlers/negotiation.ts", "if (unknown !== 0n) {", "if (unknown < 0n) {"]],
  },
  {
    name: "an unknown message ends the program",
    caughtBy: ["framing.F5-request-46", "framing.F5-request-0"],
    edits: [
      [
        "core/session.ts",
        "if (row === undefined) throw",
        "if (row === undefined) process.exit(3);\n    if (row === undefined) throw",
      ],
    ],
  },
  {
    name: "what needs a feature is served without it",
    caughtBy: ["framing.F12-config"],
    edits: [
      [
        "core/session.ts",
        "if (row.needs !== undefined && !has(this.protocolFeatures, row.needs)) {",
        "if (row.needs === -1) {",
      ],
    ],
  },
  {
    name: "regions may overlap",
    caughtBy: ["memory.M3-guest-overlap"],
    edits: [
      ["core/memory.ts", "if (overlaps(spec.guest", "if (spec.size < 0 && overlaps(spec.guest"],
    ],
  },
];
