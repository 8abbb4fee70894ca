/** The examples of a document, for tests that carry them out. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/program.ts";

export interface Snippet {
  /** What stands behind the opening fence: `ts`, `sh`, `console`. */
  readonly kind: string;
  readonly text: string;
}

export function snippetsOf(document: string): Snippet[] {
  const text = readFileSync(join(root, document), "utf8");
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, kind, body]) => ({
    kind: kind!,
    text: body!,
  }));
}

export interface Step {
  readonly command: string;
  readonly output: string;
}

/** The commands of a `console` snippet, each with the output below it. */
export function stepsOf(text: string): Step[] {
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf("\n");
      return { command: part.slice(0, end), output: part.slice(end + 1) };
    });
}

/** A pattern for an output in which `...` stands for anything. */
export function patternOf(output: string): RegExp {
  const parts = output.split("...").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s");
}
