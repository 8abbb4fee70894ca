import { describe } from "node:test";
import { suite } from "./mutant-suite.ts";
import { changeMutations } from "./mutations.ts";

describe("A copy of the back-end", () => suite(changeMutations));
