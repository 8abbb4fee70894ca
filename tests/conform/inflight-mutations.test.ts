import { describe } from "node:test";
import { suite } from "./mutant-suite.ts";
import { inflightMutations } from "./mutations.ts";

describe("A copy of the back-end", () => suite(inflightMutations));
