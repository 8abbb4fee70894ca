/** Mistakes of the network device. */
import { describe } from "node:test";
import type { Mutation } from "./mutant.ts";
import { suite } from "./mutant-suite.ts";

const DEVICE = "devices/net/device.ts";
const MODULE = "devices/net/mod.ts";
const CONTROL = "devices/net/control.ts";

const mutations: readonly Omit<Mutation, "device">[] = [
  {
    name: "a header that is wrong breaks the queue",
    caughtBy: ["net.N1-short", "net.N1-long", "net.N2-headers"],
    edits: [[DEVICE, "counters[TX_INVALID]!++;", "return 1_000_000;"]],
  },
  {
    name: "a frame in many buffers is said to be written to",
    caughtBy: ["net.N1-pieces"],
    edits: [
      [
        DEVICE,
        "const frame = this.#frame;",
        "const frame = this.#frame;if(chain.count>20)return 1;",
      ],
    ],
  },
  {
    name: "frames wait for buffers to come back in",
    caughtBy: ["net.N3-receive"],
    edits: [[DEVICE, "else counters[TX_DROPPED]!++;", "else return STOP;"]],
  },
  {
    name: "any MTU is taken",
    caughtBy: ["net.N4-mtu"],
    edits: [["core/handlers/net.ts", "min: 68, max: 65535", "min: 0, max: 2 ** 64"]],
  },
  {
    name: "the status asks for an announcement",
    caughtBy: ["net.status"],
    edits: [[MODULE, "status: device.status,", "status: 3,"]],
  },
  {
    name: "there is a queue pair too many in config space",
    caughtBy: ["net.max-pairs"],
    edits: [[MODULE, "maxVirtqueuePairs: queuePairs,", "maxVirtqueuePairs: queuePairs + 1,"]],
  },
  {
    name: "commands that nobody knows are said to be done",
    caughtBy: ["net.control-unknown"],
    edits: [[CONTROL, "default:\n      return false;", "default:\n      return true;"]],
  },
  {
    name: "no queue pair is enough",
    caughtBy: ["net.N5-pairs"],
    edits: [[CONTROL, "if (pairs < 1 || ", "if ("]],
  },
  {
    name: "the address that the driver sets is forgotten",
    caughtBy: ["net.control-mac"],
    edits: [[DEVICE, "this.#host.updateConfig({ mac: this.filter.mac });", ""]],
  },
];

describe("A copy of the network device", () =>
  suite(mutations.map((mutation) => ({ ...mutation, device: "net" }))));
