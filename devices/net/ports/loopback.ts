/** A plug that leads back: what a guest sends comes back to it, on the queue pair it was sent on if that is in use. */
import type { Frame } from "../frame.ts";
import { allOffloads } from "../offloads.ts";
import { type FrameSink, type GuestSide, type Port, Sent } from "../port.ts";

export class LoopbackPort implements Port {
  readonly offloads = allOffloads;
  readonly link = true;
  #guest!: GuestSide;

  attach(guest: GuestSide): void {
    this.#guest = guest;
  }

  send(frame: Frame, pair: number): number {
    return this.#receiver(pair).deliver(frame) ? Sent.DONE : Sent.DROPPED;
  }

  flush(pair: number): void {
    this.#receiver(pair).publish();
  }

  #receiver(pair: number): FrameSink {
    const { receivers } = this.#guest;
    const own = receivers[pair]!;
    return own.running ? own : receivers[0]!;
  }

  [Symbol.dispose](): void {}
}
