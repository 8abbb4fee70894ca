/**
 * The command line into a guest: lab/init.sh serves it on a serial line.
 *
 *   host -> guest   ID COMMAND\n
 *   guest -> host   @@ ID STATUS BYTES\n and BYTES of output
 *
 * "@@ ready" comes once after each boot. What does not begin with "@@ " (firmware, echo) is noise.
 */
import { until, within } from "./wait.ts";

export interface Answer {
  status: number;
  /** What the command wrote to stdout and stderr, as UTF-8. */
  output: string;
}

export interface RunOptions {
  timeoutMs?: number;
}

export interface Channel {
  /** Resolves at the next end of a boot, with the guest's uptime in seconds. */
  ready(timeoutMs: number): Promise<number>;
  /** The answer to one shell command line, whatever its exit status. */
  ask(command: string, options?: RunOptions): Promise<Answer>;
  /** The trimmed output of a command line. Throws when its exit status is not 0. */
  run(command: string, options?: RunOptions): Promise<string>;
  /** Asks for a command until its exit status is 0: a guest of TCG that waits by itself may oversleep. */
  succeeds(command: string, timeoutMs: number, what?: string): Promise<void>;
}

/** A terminal line of the guest holds 4095 bytes; longer ones would be cut without a word. */
const maxCommand = 3_500;
const defaultTimeoutMs = 30_000;
/** How long an answer may take before the guest is told again that there is something to read. */
const nudgeMs = 2_000;

export function openChannel(input: NodeJS.ReadableStream, output: NodeJS.WritableStream): Channel {
  const waiting = new Map<string, (answer: Answer) => void>();
  let count = 0;
  readAnswers(input, (id, answer) => {
    const take = waiting.get(id);
    waiting.delete(id);
    take?.(answer);
  });
  output.on("error", () => {}); // The guest went away: the waits end by their bound.

  const expect = (id: string) => new Promise<Answer>((resolve) => waiting.set(id, resolve));
  const channel: Channel = {
    async ready(timeoutMs) {
      const answer = await within(timeoutMs, expect("ready"), "the guest to boot");
      return Number(answer.output);
    },
    async ask(command, { timeoutMs = defaultTimeoutMs } = {}) {
      if (command.length > maxCommand || command.includes("\n")) {
        throw new Error(`A guest command is one line of at most ${maxCommand} bytes: ${command}`);
      }
      const id = `c${++count}`;
      const answer = expect(id);
      output.write(`${id} ${command}\n`);
      // An idle guest of TCG may miss an interrupt, whatever its devices, and hears the next one.
      const again = setInterval(() => output.write("nudge true\n"), nudgeMs);
      return within(timeoutMs, answer, `the guest's answer to: ${command}`).finally(() =>
        clearInterval(again),
      );
    },
    async run(command, options) {
      const { status, output } = await channel.ask(command, options);
      if (status !== 0) {
        throw new Error(`guest command failed with status ${status}: ${command}\n${output}`);
      }
      return output.trim();
    },
    async succeeds(command, timeoutMs, what = command) {
      const probe = async () => {
        const { status } = await channel.ask(command, { timeoutMs });
        return status === 0 ? true : null;
      };
      await until(timeoutMs, probe, what);
    },
  };
  return channel;
}

/** Cuts the stream into answers. */
function readAnswers(
  input: NodeJS.ReadableStream,
  take: (id: string, answer: Answer) => void,
): void {
  let pending = Buffer.alloc(0);
  let head: { id: string; status: number; bytes: number } | null = null;
  input.on("data", (chunk: Buffer | string) => {
    pending = Buffer.concat([pending, Buffer.from(chunk)]);
    for (;;) {
      if (head !== null) {
        if (pending.length < head.bytes) return;
        const output = pending.subarray(0, head.bytes).toString();
        pending = pending.subarray(head.bytes);
        const { id, status } = head;
        head = null;
        take(id, { status, output });
        continue;
      }
      const end = pending.indexOf(10);
      if (end < 0) return;
      const line = pending.subarray(0, end).toString();
      pending = pending.subarray(end + 1);
      const match = /@@ (\w+) (\d+) (\d+)\r?$/.exec(line);
      if (match) head = { id: match[1], status: Number(match[2]), bytes: Number(match[3]) };
    }
  });
}
