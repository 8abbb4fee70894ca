/** A keyboard or a tablet that the same program plays, key by key. */
import { describeKind, type Kind } from "../kinds.ts";
import type { Description, EventSink, Source } from "../source.ts";
import { EventType, KeyValue, Rel, Syn } from "../wire.ts";
import { Pointer } from "./pointer.ts";

const { SYN, KEY, REL } = EventType;

export class LiveSource implements Source {
  readonly description: Description;
  readonly #pointer = new Pointer();
  /** How many press each key. */
  readonly #pressed = new Map<number, number>();
  #sink: EventSink | null = null;

  constructor(kind: Kind) {
    this.description = describeKind(kind);
  }

  begin(sink: EventSink): void {
    this.#sink = sink;
  }

  /** Presses or releases a key or a button. It is down as long as somebody presses it. */
  press(code: number, down: boolean): void {
    const before = this.#pressed.get(code) ?? 0;
    const now = Math.max(0, before + (down ? 1 : -1));
    if (now === 0) this.#pressed.delete(code);
    else this.#pressed.set(code, now);
    if (before === 0 && now === 1) this.#emit([KEY, code, KeyValue.DOWN]);
    if (before === 1 && now === 0) this.#emit([KEY, code, KeyValue.UP]);
  }

  /** Goes to a place on the screen, as parts of its width and height from 0 to 1. */
  moveTo(x: number, y: number): void {
    this.#emit(this.#pointer.moveTo(x, y));
  }

  /** Turns the wheels, in notches. */
  turn(up: number, right: number): void {
    const vertical = up === 0 ? [] : [REL, Rel.WHEEL, up];
    this.#emit([...vertical, ...(right === 0 ? [] : [REL, Rel.HWHEEL, right])]);
  }

  /** Sends a packet. `events`: three numbers each. */
  #emit(events: readonly number[]): void {
    if (this.#sink === null || events.length === 0) return;
    for (let i = 0; i < events.length; i += 3) {
      this.#sink.emit(events[i]!, events[i + 1]!, events[i + 2]!);
    }
    this.#sink.emit(SYN, Syn.REPORT, 0);
  }

  [Symbol.dispose](): void {
    this.#sink = null;
  }
}
