/** A client of QEMU's machine protocol (QMP), as much of it as the tests need. */
import type { Socket } from "node:net";
import { within } from "./wait.ts";

type Arguments = Record<string, unknown>;

export interface QmpEvent {
  event: string;
  data?: Arguments;
}

export interface Qmp {
  /** Runs a command and returns its result. Throws with QEMU's reason. */
  execute(command: string, args?: Arguments): Promise<unknown>;
  /** The next event of that name for which `test` holds. Ask before causing it. */
  event(name: string, timeoutMs: number, test?: (data: Arguments) => boolean): Promise<QmpEvent>;
}

interface Message {
  QMP?: unknown;
  id?: number;
  return?: unknown;
  error?: { desc: string };
  event?: string;
  data?: Arguments;
}

const timeoutMs = 20_000;

/** Takes over a fresh connection from QEMU and enters command mode. */
export async function openQmp(socket: Socket): Promise<Qmp> {
  const listeners = new Set<(message: Message) => void>();
  let pending = "";
  socket.setEncoding("utf8");
  socket.on("error", () => {}); // QEMU ended: the waits end by their bound.
  socket.on("data", (text) => {
    pending += text;
    const lines = pending.split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "") continue;
      const message = JSON.parse(line) as Message;
      for (const listener of [...listeners]) listener(message);
    }
  });
  const next = (accept: (message: Message) => boolean) =>
    new Promise<Message>((resolve) => {
      const listener = (message: Message) => {
        if (!accept(message)) return;
        listeners.delete(listener);
        resolve(message);
      };
      listeners.add(listener);
    });

  let count = 0;
  const qmp: Qmp = {
    async execute(command, args) {
      const id = ++count;
      const answer = next((message) => message.id === id);
      socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      const { error, return: result } = await within(timeoutMs, answer, `QMP ${command}`);
      if (error) throw new Error(`QMP ${command} ${JSON.stringify(args ?? {})}: ${error.desc}`);
      return result;
    },
    event(name, limitMs, test = () => true) {
      const found = next((message) => message.event === name && test(message.data ?? {}));
      const event = within(limitMs, found, `QMP event ${name}`);
      event.catch(() => {}); // The caller may fail before it awaits this.
      return event as Promise<QmpEvent>;
    },
  };
  await within(
    timeoutMs,
    next((message) => message.QMP !== undefined),
    "the QMP greeting",
  );
  await qmp.execute("qmp_capabilities");
  return qmp;
}
