import { describe } from "node:test";
import { suite } from "./mutant-suite.ts";
import { optionMutations } from "./mutations.ts";

describe("A copy of the back-end", () => suite(optionMutations));
