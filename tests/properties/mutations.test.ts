import { SplitQueue } from "../../core/split.ts";
import { SplitBigEndianQueue } from "../../core/split-big-endian.ts";
import { survivesHostileRing } from "./hostile.ts";
import { bigEndianMutations, mutations } from "./mutant.ts";
import { testMutations } from "./mutation-suite.ts";
import { behavesAsModel } from "./property.ts";

testMutations({
  queue: "SplitQueue",
  original: SplitQueue,
  mutations,
  properties: { model: behavesAsModel, hostile: survivesHostileRing },
});

testMutations({
  queue: "SplitBigEndianQueue",
  original: SplitBigEndianQueue,
  mutations: bigEndianMutations,
  properties: {
    model: (arena, Queue) => behavesAsModel(arena, Queue, false),
    hostile: (arena, Queue) => survivesHostileRing(arena, Queue, false),
  },
});
