/** Events of tablets and touch screens, which place a finger or a pointer on the screen. */
import { AXIS_MAXIMUM, CONTACTS, TRACKING_MAXIMUM } from "../kinds.ts";
import { Abs, Button, EventType, KeyValue } from "../wire.ts";

const { ABS, KEY } = EventType;

const place = (fraction: number): number => Math.round(fraction * AXIS_MAXIMUM);

/** Returns events as three numbers each, without the end of their packet. */
export class Pointer {
  readonly #down = new Set<number>();
  #tracking = 0;

  /** The number of a contact. */
  contact(text: string): number {
    const contact = /^\d+$/.test(text) ? Number(text) : CONTACTS;
    if (contact < CONTACTS) return contact;
    throw new Error(`Cannot use contact ${text}: expected 0 to ${CONTACTS - 1}`);
  }

  /** `x` and `y` are fractions of the screen. */
  moveTo(x: number, y: number): number[] {
    return [ABS, Abs.X, place(x), ABS, Abs.Y, place(y)];
  }

  /** A contact begins, or moves. */
  touch(contact: number, x: number, y: number): number[] {
    const events = [ABS, Abs.MT_SLOT, contact];
    const first = this.#down.size === 0;
    if (!this.#down.has(contact)) {
      events.push(ABS, Abs.MT_TRACKING_ID, this.#tracking);
      this.#tracking = (this.#tracking + 1) % (TRACKING_MAXIMUM + 1);
      this.#down.add(contact);
    }
    events.push(ABS, Abs.MT_POSITION_X, place(x), ABS, Abs.MT_POSITION_Y, place(y));
    if (first) events.push(KEY, Button.TOUCH, KeyValue.DOWN);
    // Programs that know one finger only follow the one that has been there the longest.
    if ([...this.#down][0] === contact) events.push(...this.moveTo(x, y));
    return events;
  }

  /** A contact ends. */
  lift(contact: number): number[] {
    if (!this.#down.delete(contact)) throw new Error(`Cannot lift contact ${contact}: it is up`);
    const events = [ABS, Abs.MT_SLOT, contact, ABS, Abs.MT_TRACKING_ID, -1];
    if (this.#down.size === 0) events.push(KEY, Button.TOUCH, KeyValue.UP);
    return events;
  }
}
