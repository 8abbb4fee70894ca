/**
 * Reads conversations from text files. `## name` begins one, `# text` is a comment, and then
 *
 *     > BYTES +NAME...   the front-end sends this, with descriptors of these kinds
 *     < BYTES +fd        the back-end answers exactly this, with one descriptor
 *     << BYTES +fd       the back-end sends this on the channel of SET_BACKEND_REQ_FD
 *     >> BYTES +NAME     the front-end answers that
 *     ! NAME VALUE       something happens in the device
 *     = closed           the back-end ends the connection
 *
 * Bytes are hexadecimal, spaces between them mean nothing, `00*60` stands for 60 equal bytes, and `??`
 * for a byte that may be anything.
 * Where no answer is listed none may come.
 */

export type StepKind = ">" | "<" | ">>" | "<<" | "!" | "=";

export interface Step {
  readonly kind: StepKind;
  readonly bytes: Uint8Array;
  /** 0 for each byte that may be anything, 255 for the others. */
  readonly mask: Uint8Array;
  /** Descriptors of a message, or the words of `!` and `=`. */
  readonly words: readonly string[];
  readonly line: number;
}

export interface Conversation {
  readonly name: string;
  readonly steps: readonly Step[];
}

function readBytes(text: string): { bytes: Uint8Array; mask: Uint8Array } {
  const whole = text
    .replace(/([0-9a-f]{2}|\?\?)\*(\d+)/g, (_, byte, count) => byte.repeat(Number(count)))
    .replace(/\s/g, "");
  if (!/^([0-9a-f]{2}|\?\?)*$/.test(whole)) throw new SyntaxError(`these are no bytes: ${text}`);
  const parts = whole.match(/../g) ?? [];
  return {
    bytes: Uint8Array.from(parts, (byte) => (byte === "??" ? 0 : Number.parseInt(byte, 16))),
    mask: Uint8Array.from(parts, (byte) => (byte === "??" ? 0 : 255)),
  };
}

function readStep(text: string, line: number): Step {
  const [, kind, rest] = /^(>>|<<|[><!=]) (.*)$/.exec(text) ?? [];
  if (kind === undefined) throw new SyntaxError(`line ${line} is no step: ${text}`);
  const parts = rest!.split(/[\s+]+/).filter(Boolean);
  const spoken = kind === "!" || kind === "=";
  const isWord = (part: string) => spoken || /^fd$|^[g-z]|[^0-9a-f*?]/.test(part);
  return {
    kind: kind as StepKind,
    ...readBytes(parts.filter((part) => !isWord(part)).join(" ")),
    words: parts.filter(isWord),
    line,
  };
}

export function parseConversations(text: string): Conversation[] {
  const result: { name: string; steps: Step[] }[] = [];
  text.split("\n").forEach((line, i) => {
    const trimmed = line.trim();
    if (trimmed.startsWith("## ")) result.push({ name: trimmed.slice(3), steps: [] });
    else if (trimmed !== "" && !trimmed.startsWith("#")) {
      result.at(-1)!.steps.push(readStep(trimmed, i + 1));
    }
  });
  return result;
}
