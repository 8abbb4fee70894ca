/** A plug that leads back: what a guest sends comes back to it, on the queue pair it was sent on. */
import type { Frame } from "../frame.ts";
import { allOffloads } from "../offloads.ts";
import { type GuestSide, type Port, Sent } from "../port.ts";

export class LoopbackPort implements Port {
  readonly offloads = allOffloads;
  readonly link = true;
  #guest!: GuestSide;

  attach(guest: GuestSide): void {
    this.#guest = guest;
  }

  send(frame: Frame, pair: number): number {
    return this.#guest.receivers[pair]!.deliver(frame) ? Sent.DONE : Sent.DROPPED;
  }

  flush(pair: number): void {
    this.#guest.receivers[pair]!.publish();
  }

  [Symbol.dispose](): void {}
}
