/** `--listen`: commands from programs that connect to a socket, as long as they like. */
import { type BoundSocket, bindSocket } from "../../../core/bind-socket.ts";
import type { Host } from "../../../core/device.ts";
import { accept, type Fd, MessageBuffer } from "../../../ffi/mod.ts";
import type { EventSink } from "../source.ts";
import type { Composer } from "./composer.ts";
import { Player } from "./player.ts";
import { LiveScript } from "./script.ts";

/** Programs that may be connected at once. */
const MAX_CLIENTS = 64;
const MAX_ANSWER = 4096;

interface Client extends Disposable {
  readonly player: Player;
  answer(text: string): void;
}

export class Listener implements Disposable {
  readonly #socket: BoundSocket;
  readonly #composer: Composer;
  readonly #host: Host;
  readonly #clients = new Set<Client>();
  readonly #message = new MessageBuffer(MAX_ANSWER);
  #sink: EventSink | null = null;
  #watch: Disposable | null = null;

  /** Throws `Error` when the path cannot be listened on. */
  constructor(path: string, composer: Composer, host: Host) {
    this.#socket = bindSocket(path);
    this.#composer = composer;
    this.#host = host;
  }

  /** Accepts programs from now on. */
  begin(sink: EventSink): void {
    const { fd } = this.#socket;
    this.#sink = sink;
    this.#watch = this.#host.watch(fd.number, () => {
      const client = accept(fd);
      if (client !== null) this.#serve(client);
    });
  }

  /** Lets every program's commands go on. */
  run(): void {
    for (const { player } of this.#clients) player.run();
  }

  /** Tells every program. */
  tell(text: string): void {
    for (const client of this.#clients) client.answer(text);
  }

  #serve(fd: Fd): void {
    if (this.#clients.size === MAX_CLIENTS) {
      this.#send(fd, `error: ${MAX_CLIENTS} programs are connected already`);
      return fd.close();
    }
    const answer = (text: string): void => this.#send(fd, text);
    const hooks = { wake: () => player.run(), answer, ended: () => close() };
    const script = new LiveScript(fd, this.#composer, this.#host, hooks);
    const player = new Player(script, this.#sink!, this.#host);
    const close = (): void => {
      this.#clients.delete(client);
      player[Symbol.dispose]();
      script[Symbol.dispose]();
    };
    const client: Client = { player, answer, [Symbol.dispose]: close };
    this.#clients.add(client);
    player.run();
  }

  /** Sends a line. One who does not read loses it. */
  #send(fd: Fd, text: string): void {
    const line = `${text.slice(0, MAX_ANSWER / 4)}\n`;
    const { written } = new TextEncoder().encodeInto(line, this.#message.data);
    try {
      this.#message.send(fd, 0, written);
    } catch (error) {
      this.#host.log.debug("An answer was lost", { reason: (error as Error).message });
    }
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
    for (const client of this.#clients) client[Symbol.dispose]();
    this.#socket.unlink();
    this.#socket.fd.close();
  }
}
