/** The Test Anything Protocol, version 13. */
import type { Result } from "../check.ts";

export function tapHeader(count: number): string {
  return `TAP version 13\n1..${count}`;
}

/** The line of check `number`, counted from 1. n/a and skip are TAP's SKIP. */
export function tapLine({ id, title, source, outcome, detail }: Result, number: number): string {
  const state = outcome === "fail" ? "not ok" : "ok";
  const name = `${id} - ${title} [${source}]`.replaceAll("#", "\\#");
  const skipped = outcome === "n/a" || outcome === "skip";
  const line = `${state} ${number} ${name}${skipped ? ` # SKIP ${outcome}: ${detail}` : ""}`;
  if (outcome !== "fail") return line;
  return `${line}\n  ---\n  message: ${JSON.stringify(detail)}\n  ...`;
}
