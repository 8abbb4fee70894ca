/** A device of ours: a keyboard, mouse, tablet or touch screen that scripts and programs play. */
import type { Host } from "../../../core/device.ts";
import { ledNames } from "../key-names.ts";
import { type KeymapName, keymaps } from "../keymaps/mod.ts";
import { describeKind, type Kind } from "../kinds.ts";
import type { Description, EventSink, Source } from "../source.ts";
import { EventType } from "../wire.ts";
import { Composer } from "./composer.ts";
import { Listener } from "./listen.ts";
import { Player, type Script } from "./player.ts";
import { openScript } from "./script.ts";

export interface ScriptedOptions {
  readonly kind: Kind;
  readonly keymap: KeymapName;
  readonly name?: string | undefined;
  readonly serial?: string | undefined;
  /** A file of commands, `-` for standard input. */
  readonly script?: string | undefined;
  /** The path of a socket that takes commands. */
  readonly listen?: string | undefined;
}

/** What the driver has set, as a line of text. */
function statusLine(type: number, code: number, value: number): string {
  if (type !== EventType.LED) return `status ${type} ${code} ${value}`;
  return `led ${ledNames[code] ?? code} ${value === 0 ? "off" : "on"}`;
}

export class ScriptedSource implements Source {
  readonly description: Description;
  readonly #host: Host;
  readonly #script: (Script & Partial<Disposable>) | null = null;
  readonly #listener: Listener | null = null;
  #player: Player | null = null;

  /** Throws `Error` for a script that is wrong, and a path that cannot be listened on. */
  constructor(options: ScriptedOptions, host: Host) {
    const { kind, keymap, script, listen, name, serial = "" } = options;
    this.description = describeKind(kind, name === undefined ? { serial } : { name, serial });
    this.#host = host;
    const composer = new Composer(kind, keymaps[keymap]);
    if (script !== undefined) {
      this.#script = openScript(script, composer, host, () => this.#player?.run());
    }
    if (listen !== undefined) this.#listener = new Listener(listen, composer, host);
  }

  begin(sink: EventSink): void {
    if (this.#script !== null) this.#player = new Player(this.#script, sink, this.#host);
    this.#listener?.begin(sink);
  }

  opened(): void {
    this.#player?.run();
    this.#listener?.run();
  }

  status(type: number, code: number, value: number): void {
    const line = statusLine(type, code, value);
    this.#host.log.debug(`The driver says: ${line}`);
    this.#listener?.tell(line);
  }

  [Symbol.dispose](): void {
    this.#player?.[Symbol.dispose]();
    this.#script?.[Symbol.dispose]?.();
    this.#listener?.[Symbol.dispose]();
  }
}
