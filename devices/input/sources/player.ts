/** Plays steps to the guest, as fast as it takes them. */
import type { Host } from "../../../core/device.ts";
import type { EventSink } from "../source.ts";
import type { Step } from "./composer.ts";

/** Where steps come from and answers go to. */
export interface Script {
  /** The next steps; null when there are none now. */
  next(): readonly Step[] | null;
  echo(text: string): void;
}

const none: readonly Step[] = [];

export class Player implements Disposable {
  readonly #script: Script;
  readonly #sink: EventSink;
  readonly #host: Host;
  #steps = none;
  #at = 0;
  #timer: Disposable | null = null;
  #running = false;

  constructor(script: Script, sink: EventSink, host: Host) {
    this.#script = script;
    this.#sink = sink;
    this.#host = host;
  }

  /** Goes on, if that is possible now. */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      // Read ahead by a line: whoever has no more to say is let go without a driver.
      while (this.#timer === null && this.#load() && this.#sink.open && this.#play());
    } finally {
      this.#running = false;
    }
  }

  /** False when there is no step now. */
  #load(): boolean {
    while (this.#at === this.#steps.length) {
      const steps = this.#script.next();
      if (steps === null) return false;
      this.#steps = steps;
      this.#at = 0;
    }
    return true;
  }

  /** Plays one step. False when it has to wait for the driver. */
  #play(): boolean {
    const step = this.#steps[this.#at]!;
    if ("echo" in step) {
      if (!this.#sink.empty) return false;
      this.#script.echo(step.echo);
    } else if ("wait" in step) {
      this.#timer = this.#host.after(step.wait, () => {
        this.#timer = null;
        this.run();
      });
    } else {
      const { events } = step;
      for (let i = 0; i < events.length; i += 3) {
        this.#sink.emit(events[i]!, events[i + 1]!, events[i + 2]!);
      }
    }
    this.#at++;
    return true;
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#steps = none;
    this.#at = 0;
  }
}
