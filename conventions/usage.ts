/** Mistakes on a command line, and how programs report failures. */

/** The command line is wrong. The message is the one line that its user gets; exit status 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/** Exit statuses of every program. */
export const ExitStatus = { OK: 0, FAILED: 1, USAGE: 2 } as const;

/** Writes the one line that a failure at start-up gets. Returns the exit status. */
export function reportFailure(program: string, error: unknown): number {
  const text = error instanceof Error ? error.message : String(error);
  console.error(`${program}: ${text.replace(/\s*\n\s*/g, " ")}`);
  return error instanceof UsageError ? ExitStatus.USAGE : ExitStatus.FAILED;
}

/** Edits that turn one word into the other: a letter more, less or changed, or two swapped. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, i) => i)];
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1]!;
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? rows[i - 2]![j - 2]! + 1 : changed;
      row.push(Math.min(changed, above[j]! + 1, row[j - 1]! + 1, swap));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

/** The word that was probably meant, or undefined. */
export function closest(word: string, words: readonly string[]): string | undefined {
  const begun = words.filter((other) => word.length > 1 && other.startsWith(word));
  if (begun.length === 1) return begun[0];
  const limit = Math.max(1, Math.floor(word.length / 3));
  const near = words
    .map((other) => ({ other, edits: distance(word, other) }))
    .sort((a, b) => a.edits - b.edits)[0];
  return near !== undefined && near.edits <= limit ? near.other : undefined;
}
