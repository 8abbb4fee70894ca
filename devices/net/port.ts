/**
 * A host side: where a guest's frames go, and where those for it come from. `ports/` has one file
 * for each kind.
 */
import type { Frame } from "./frame.ts";
import type { Offloads } from "./offloads.ts";
import type { NetFeatureName } from "./wire.ts";

/** What `Port.send` returns. */
export const Sent = {
  /** The frame is on its way. */
  DONE: 0,
  /** It is lost. */
  DROPPED: 1,
  /** It may be sent again after `GuestSide.resume`; the guest's queue waits. */
  WAIT: 2,
} as const;

/** Where frames for a guest go, by one of its queue pairs; usually a `Receiver`. */
export interface FrameSink {
  /** Whether frames can be had at all. */
  readonly running: boolean;
  /** Delivers a frame. False when it was dropped, which is counted. */
  deliver(frame: Frame): boolean;
  /** The same, unless there is no buffer for it now. Returns an `Outcome`. */
  offer(frame: Frame): number;
  /** Reads a frame from a tap and delivers it. Returns an `Outcome`. */
  readFrom(fd: number): number;
  /** The end of a batch. */
  publish(): void;
}

/** The guest, as its port sees it. */
export interface GuestSide {
  /** One for each queue pair. Those of pairs that are not in use drop what they get. */
  readonly receivers: readonly FrameSink[];
  /** Goes on after `WAIT`. */
  resume(): void;
  /** Tells the guest whether there is a link. */
  setLink(up: boolean): void;
}

/** What both sides have agreed on. */
export interface PortSettings {
  /** Bytes of the header before each frame in the guest's buffers. */
  readonly headerSize: number;
  /** What the port may leave to the guest. */
  readonly offloads: Offloads;
}

export interface Port extends Disposable {
  /** Offloads that it carries, both ways. */
  readonly offloads: readonly NetFeatureName[];
  /** Whether there is a link when the program starts. */
  readonly link: boolean;
  /** Called once, before anything else. */
  attach(guest: GuestSide): void;
  /** The driver has accepted features, or changed what it takes. */
  configure?(settings: PortSettings): void;
  /** A receive queue runs, or has buffers again. */
  wake?(pair: number): void;
  /** A receive queue stops. */
  sleep?(pair: number): void;
  /** Takes a frame that is in order. Returns one of `Sent`. Its memory is the guest's again afterwards. */
  send(frame: Frame, pair: number): number;
  /** The last one of a batch was sent. */
  flush?(pair: number): void;
  /** The guest is gone; another one may come. */
  reset?(): void;
}
