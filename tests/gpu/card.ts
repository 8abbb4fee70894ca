/** Tests of 2D are for every card there is. */
import { describe } from "node:test";
import { noRenderer } from "./virgl.ts";

/** Describes the card without and with 3D. `body` gets the options that make it. */
export function eachCard(name: string, body: (card: readonly string[]) => void): void {
  describe(name, () => body([]));
  describe(`${name}, with --virgl`, { skip: noRenderer }, () => body(["--virgl"]));
}
