/** What a reader of events knows of a device: which keys are down, where axes and contacts are. */
import { Abs, codeCounts, EventType, KeyValue } from "./wire.ts";

const { KEY, ABS, SW } = EventType;
const { MT_SLOT, MT_FIRST, MT_LAST, MT_TRACKING_ID } = Abs;

/** Nothing was said of an axis yet. No device has this value. */
const UNKNOWN = -0x8000_0000;
const KEYS = codeCounts.get(KEY)!;
const SWITCHES = codeCounts.get(SW)!;
const AXES = codeCounts.get(ABS)!;
const MT_AXES = MT_LAST - MT_FIRST + 1;
/** Contacts that are followed; no panel has more. */
const MAX_SLOTS = 64;

export class DeviceState {
  readonly #keys = new Uint8Array(KEYS);
  readonly #switches = new Uint8Array(SWITCHES);
  readonly #axes = new Int32Array(AXES).fill(UNKNOWN);
  /** Contacts that are told apart; 0 for a device without slots. */
  readonly #slots: number;
  /** For each contact its axes from `MT_FIRST` on. */
  readonly #contacts: Int32Array;
  #slot = 0;

  constructor(slots = 0) {
    this.#slots = Math.max(0, Math.min(slots, MAX_SLOTS));
    this.#contacts = new Int32Array(this.#slots * MT_AXES).fill(UNKNOWN);
  }

  /** Follows an event. */
  apply(type: number, code: number, value: number): void {
    if (type === KEY && code < KEYS) {
      if (value !== KeyValue.REPEAT) this.#keys[code] = value === 0 ? 0 : 1;
    } else if (type === SW && code < SWITCHES) this.#switches[code] = value === 0 ? 0 : 1;
    else if (type === ABS && code < AXES) this.#applyAxis(code, value);
  }

  #applyAxis(code: number, value: number): void {
    if (code === MT_SLOT) this.#slot = value;
    else if (code < MT_FIRST || code > MT_LAST) this.#axes[code] = value;
    else if (this.#slot >= 0 && this.#slot < this.#slots) {
      this.#contacts[this.#slot * MT_AXES + code - MT_FIRST] = value;
    }
  }

  isDown(key: number): boolean {
    return this.#keys[key] === 1;
  }

  /** Knows nothing again. */
  clear(): void {
    this.#keys.fill(0);
    this.#switches.fill(0);
    this.#axes.fill(UNKNOWN);
    this.#contacts.fill(UNKNOWN);
    this.#slot = 0;
  }

  /** Makes this state equal to `other`, of the same device. */
  copy(other: DeviceState): void {
    this.#keys.set(other.#keys);
    this.#switches.set(other.#switches);
    this.#axes.set(other.#axes);
    this.#contacts.set(other.#contacts);
    this.#slot = other.#slot;
  }

  /** The events that lead from this state to `goal`, three numbers each, without an end of packet. */
  eventsTo(goal: DeviceState): number[] {
    const events: number[] = [];
    const compare = (type: number, ours: ArrayLike<number>, theirs: ArrayLike<number>): void => {
      for (let code = 0; code < theirs.length; code++) {
        if (ours[code] !== theirs[code] && theirs[code] !== UNKNOWN) {
          events.push(type, code, theirs[code]!);
        }
      }
    };
    compare(KEY, this.#keys, goal.#keys);
    compare(SW, this.#switches, goal.#switches);
    compare(ABS, this.#axes, goal.#axes);
    this.#addContacts(goal, events);
    return events;
  }

  #addContacts(goal: DeviceState, events: number[]): void {
    let slot = this.#slot;
    const select = (wanted: number): void => {
      if (slot !== wanted) events.push(ABS, MT_SLOT, wanted);
      slot = wanted;
    };
    for (let contact = 0; contact < goal.#slots; contact++) {
      const at = contact * MT_AXES;
      const add = (axis: number): void => {
        const value = goal.#contacts[at + axis]!;
        if (value === this.#contacts[at + axis] || value === UNKNOWN) return;
        select(contact);
        events.push(ABS, MT_FIRST + axis, value);
      };
      // A contact is announced before its place, and one that has ended has no place.
      const tracking = MT_TRACKING_ID - MT_FIRST;
      add(tracking);
      for (let axis = 0; axis < MT_AXES; axis++) if (axis !== tracking) add(axis);
    }
    select(goal.#slot);
  }

  /** The events that lift all keys and contacts: the device is gone. */
  eventsToRest(): number[] {
    const rest = new DeviceState(this.#slots);
    rest.copy(this);
    rest.#keys.fill(0);
    for (let contact = 0; contact < this.#slots; contact++) {
      const at = contact * MT_AXES + MT_TRACKING_ID - MT_FIRST;
      if (rest.#contacts[at] !== UNKNOWN) rest.#contacts[at] = -1;
    }
    return this.eventsTo(rest);
  }
}
