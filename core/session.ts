/**
 * One front-end's connection to one device: negotiated state, vrings, guest memory. The messages
 * themselves are handled in `handlers/`.
 */
import type { Fd } from "../ffi/mod.ts";
import type { Backend } from "./backend.ts";
import { Connection, type Message } from "./connection.ts";
import type { StateTransfer } from "./device-state.ts";
import { DirtyLog } from "./dirty-log.ts";
import { ProtocolError } from "./errors.ts";
import { has } from "./features.ts";
import { type Outcome, SILENT, WAIT } from "./handlers/handler.ts";
import type { InflightRegion } from "./inflight.ts";
import { GuestMemory } from "./memory.ts";
import { U64 } from "./payloads.ts";
import type { Postcopy } from "./postcopy.ts";
import { frontEndMessages, ProtocolFeature } from "./protocol.ts";
import type { RequestChannel } from "./request-channel.ts";
import { Translation } from "./translation.ts";
import { Vring, type VringContext } from "./vring.ts";

export class Session {
  readonly backend: Backend;
  readonly memory = new GuestMemory();
  /** What I/O addresses mean, for drivers behind an IOMMU. */
  readonly translation: Translation;
  /** Virtio feature bits that the driver accepted. */
  features = 0n;
  /** Protocol feature bits that the front-end accepted. */
  protocolFeatures = 0n;
  /** Device status, as far as the front-end reports it. */
  status = 0;
  readonly dirtyLog = new DirtyLog();
  /** What the front-end keeps of requests in flight, once it has given it to us. */
  inflight: InflightRegion | null = null;
  requests: RequestChannel | null = null;
  /** The last transfer of device state, until there is another. */
  transfer: StateTransfer | null = null;
  /** From POSTCOPY_ADVISE to POSTCOPY_END. */
  postcopy: Postcopy | null = null;
  /** Vrings without descriptors of their own are notified by messages. */
  inBand = false;
  /** The front-end's. */
  readonly socket: Fd;
  readonly #connection: Connection;
  readonly #vringContext: VringContext;
  /** Those that the front-end has named so far: a device may have hundreds, of which few are used. */
  readonly #vrings = new Map<number, Vring>();
  /** Rings work without being enabled, also those that are named later. */
  #allEnabled = false;
  readonly #onEnd: () => void;
  /** The message whose answer waits for the device. */
  #waiting: Message | null = null;
  #ended = false;

  /** Takes `socket`. `onEnd` is called once, when everything of the session is released. */
  constructor(backend: Backend, socket: Fd, onEnd: () => void) {
    this.backend = backend;
    this.socket = socket;
    this.#onEnd = onEnd;
    const { loop, log, device } = backend;
    const session = this;
    const channel = () => this.requests;
    this.translation = new Translation(this.memory, { loop, log, channel });
    this.#vringContext = {
      loop,
      log,
      device,
      memory: this.memory,
      translation: this.translation,
      dirtyLog: this.dirtyLog,
      get inflight(): InflightRegion | null {
        return session.inflight;
      },
      get features(): bigint {
        return session.features;
      },
      get guestAddresses(): boolean {
        return session.hasProtocol(ProtocolFeature.GPA_ADDRESSES);
      },
      notify(name: "VRING_CALL" | "VRING_ERR", vring: number) {
        if (session.inBand) session.requests?.notify(name, vring);
      },
    };
    this.#connection = new Connection(socket, loop, backend.protocol.rows, {
      message: (message) => this.#handle(message),
      ended: (reason) => this.#end(reason),
    });
  }

  /** Tells whether a protocol feature is negotiated. Those of drafts are others than they seem. */
  hasProtocol(feature: number): boolean {
    return has(this.protocolFeatures & ~this.backend.protocol.bits, feature);
  }

  /** The vring of an index from the wire. */
  vring(index: number): Vring {
    const known = this.#vrings.get(index);
    if (known !== undefined) return known;
    const { queues } = this.backend;
    const spec = queues[index];
    if (spec === undefined) {
      throw new ProtocolError(`Cannot use vring ${index}: the device has ${queues.length}`);
    }
    const vring = new Vring(index, spec, this.#vringContext);
    if (this.#allEnabled) vring.enable();
    this.#vrings.set(index, vring);
    return vring;
  }

  /** The vrings that the front-end has done something with. */
  get vrings(): readonly Vring[] {
    return [...this.#vrings.values()];
  }

  /**
   * Pauses vrings, all unless told otherwise, runs `change` when none has anything in flight, and goes
   * on. Guest memory may only be taken away in between. What `change` throws is given to `done`.
   */
  whileQuiet(
    change: () => void,
    done: (error?: unknown) => void,
    rings: readonly Vring[] = this.vrings,
  ): void {
    const resume = (): void => {
      let failure: unknown;
      try {
        change();
      } catch (error) {
        failure = error;
      }
      for (const vring of rings) vring.unsuspend();
      done(failure);
    };
    this.#eachRing(rings, (vring, ready) => vring.suspend(ready), resume);
  }

  /** Pauses all vrings and calls `done` when none has anything in flight. */
  suspendRings(done: () => void): void {
    this.#eachRing(this.vrings, (vring, ready) => vring.suspend(ready), done);
  }

  /** Goes on after `suspendRings`. */
  resumeRings(): void {
    for (const vring of this.vrings) vring.unsuspend();
  }

  /** Stops every vring, then calls `done`. */
  stopRings(done: () => void): void {
    const forget = () => {
      this.forgetDriver();
      done();
    };
    this.#eachRing(this.vrings, (vring, ready) => vring.stop(() => ready()), forget);
  }

  /** Enables every vring, also those to come. */
  enableRings(): void {
    this.#allEnabled = true;
    for (const vring of this.vrings) vring.enable();
  }

  /** Disables every vring, then calls `done`. */
  disableRings(done: () => void): void {
    this.#allEnabled = false;
    this.#eachRing(this.vrings, (vring, ready) => vring.disable(ready), done);
  }

  /** Forgets the driver's I/O addresses once all rings are stopped: the next driver has its own. */
  forgetDriver(): void {
    if (this.vrings.every((vring) => vring.stopped)) this.translation.clear();
  }

  /** Calls `done` when `action` has called back for every one of `rings`. */
  #eachRing(
    rings: readonly Vring[],
    action: (vring: Vring, ready: () => void) => void,
    done: () => void,
  ): void {
    let left = rings.length + 1;
    const ready = (): void => {
      if (--left === 0) done();
    };
    for (const vring of rings) action(vring, ready);
    ready();
  }

  /** Answers the message whose handler returned `WAIT`, with an error or what it would return. */
  answer(message: Message, outcome?: Outcome, error?: unknown): void {
    if (this.#waiting !== message) return;
    this.#waiting = null;
    try {
      if (error === undefined) this.#reply(message, outcome);
      else this.#refuse(message, error);
    } catch (failure) {
      return this.#end(failure as Error);
    } finally {
      message.release();
    }
    this.#connection.resume();
  }

  /** Tells the front-end which features are in use, on the main socket (draft `vhost-pci`). */
  announceFeatures(features: bigint): void {
    if (this.#ended) return;
    const { code, name } = frontEndMessages.SET_FEATURES;
    const { log } = this.backend;
    const answered = (value: bigint): void => {
      if (value !== 0n) log.warn(`The front-end refused ${name}`, { answer: String(value) });
    };
    const acknowledged = this.hasProtocol(ProtocolFeature.REPLY_ACK);
    try {
      this.#connection.request(
        code,
        U64.encode({ value: features }),
        acknowledged ? answered : null,
      );
    } catch (error) {
      this.#end(error as Error);
    }
  }

  /** Ends the session from our side. */
  close(): void {
    this.#end(null);
  }

  #handle(message: Message): void {
    let waits = false;
    try {
      waits = this.#dispatch(message);
    } catch (error) {
      this.#waiting = null;
      this.#refuse(message, error);
    } finally {
      // Refusing may throw, to end the connection: the descriptors must not survive that.
      if (!waits) message.release();
    }
  }

  /** Handles a message. Returns true when it is answered later, or was by its handler. */
  #dispatch(message: Message): boolean {
    const { row } = message;
    if (row === undefined) throw new ProtocolError(`there is no message ${message.code}`);
    if (row.needs !== undefined && !has(this.protocolFeatures, row.needs)) {
      throw new ProtocolError(`${row.name} needs a protocol feature that is not negotiated`);
    }
    const [fewest, most] = row.fds;
    if (message.fds.length < fewest || message.fds.length > most) {
      throw new ProtocolError(
        `${row.name} carries ${message.fds.length} descriptors, not ${fewest} to ${most}`,
      );
    }
    // Throws when it should be the answer to the addresses of postcopied memory, and is not.
    this.postcopy?.isAnswer(message);
    const handler = this.backend.protocol.handlers[row.code];
    if (handler === undefined) throw new ProtocolError(`${row.name} is not supported`);
    this.#waiting = message;
    const outcome = handler(this, message);
    if (outcome === WAIT) {
      // It may have been answered at once.
      if (this.#waiting === message) this.#connection.pause();
      return true;
    }
    this.#waiting = null;
    if (outcome !== SILENT) this.#reply(message, outcome);
    return false;
  }

  /** Sends a handler's payload, or the acknowledgement that the message asked for. */
  #reply(message: Message, outcome: Outcome | undefined): void {
    if (outcome instanceof Uint8Array) this.#connection.reply(message.code, outcome);
    else if (outcome) this.#connection.reply(message.code, outcome.payload, outcome.fds);
    else if (this.#wantsAck(message)) this.#connection.reply(message.code, ok);
  }

  #wantsAck(message: Message): boolean {
    return message.needReply && this.hasProtocol(ProtocolFeature.REPLY_ACK);
  }

  /** Refuses a message. Without an acknowledgement, closing is the only way to say so. */
  #refuse(message: Message, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    const refusal = this.#refusalOf(message);
    const fatal = error instanceof ProtocolError && error.fatal;
    if (fatal || refusal === null) {
      throw error instanceof ProtocolError ? error : new ProtocolError(`${message.name}: ${text}`);
    }
    this.backend.log.warn(`Refused ${message.name}`, { reason: text });
    this.#connection.reply(message.code, U64.encode({ value: refusal }));
  }

  /** The u64 that tells the front-end of a refusal, or null when the protocol has none. */
  #refusalOf(message: Message): bigint | null {
    const reply = message.row?.reply ?? "ack";
    if (reply !== "ack") return reply.refusal ?? null;
    return this.#wantsAck(message) ? 1n : null;
  }

  #end(reason: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    const { log } = this.backend;
    if (reason === null) log.info("The front-end disconnected");
    else log.error("The connection ends", { reason: reason.message });
    // Before anything waits for the rings: nobody fills the pages that are missing.
    this.postcopy?.[Symbol.dispose]();
    this.#connection.close();
    this.#waiting?.release();
    this.#waiting = null;
    this.transfer?.[Symbol.dispose]();
    this.requests?.[Symbol.dispose]();
    this.requests = null;
    // The kernel or a promise may still write to guest memory for requests in flight.
    this.stopRings(() => {
      for (const vring of this.vrings) vring.dispose();
      this.memory[Symbol.dispose]();
      this.dirtyLog[Symbol.dispose]();
      this.inflight?.[Symbol.dispose]();
      this.#onEnd();
    });
  }
}

const ok = U64.encode({ value: 0n });
