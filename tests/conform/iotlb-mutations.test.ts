import { describe } from "node:test";
import { suite } from "./mutant-suite.ts";
import { iotlbMutations } from "./mutations.ts";

describe("A copy of the back-end", () => suite(iotlbMutations));
