/** A switch's way out: a tap whose frames are for whichever guest they name. */
import { HostChain } from "../../../core/host-chain.ts";
import { Iovecs, libc } from "../../../ffi/mod.ts";
import { Frame } from "../frame.ts";
import { anyOffloads, Offloads } from "../offloads.ts";
import { type FrameSink, type GuestSide, type Port, Sent } from "../port.ts";
import { Outcome, readFailure } from "../receiver.ts";
import { Header, MAX_FRAME } from "../wire.ts";
import type { Fabric, Member, SwitchPort } from "./switch.ts";

export class Uplink implements Member, GuestSide, FrameSink {
  readonly vlan = 0;
  readonly receivers: readonly FrameSink[] = [this];
  readonly running = true;
  readonly #fabric: Fabric;
  readonly #port: Port;
  readonly #guests: readonly SwitchPort[];
  readonly #chain = new HostChain(MAX_FRAME + Header.size);
  readonly #frame = new Frame();
  readonly #iovecs = new Iovecs(1);

  constructor(fabric: Fabric, port: Port, guests: readonly SwitchPort[]) {
    this.#fabric = fabric;
    this.#port = port;
    this.#guests = guests;
    this.#iovecs.push(this.#chain.address, MAX_FRAME + Header.size);
    port.attach(this);
    fabric.changed = () => this.#configure();
    port.wake?.(0);
  }

  readFrom(fd: number): number {
    const got = libc.readv(fd, this.#iovecs.words, 1);
    if (got <= Header.size) return readFailure(got);
    this.#chain.select(0, got);
    if (!this.#frame.parse(this.#chain, Header.size, anyOffloads)) return Outcome.LOST;
    return this.offer(this.#frame);
  }

  offer(frame: Frame): number {
    return this.#fabric.forward(frame, this.#fabric.numberOf(this), 0)
      ? Outcome.DONE
      : Outcome.LOST;
  }

  deliver(frame: Frame): boolean {
    return this.#port.send(frame, 0) === Sent.DONE;
  }

  publish(): void {
    this.#fabric.flush();
  }

  endBatch(): void {}

  resume(): void {}

  setLink(): void {}

  /** The kernel may leave to us what each of the guests takes. */
  #configure(): void {
    const taken = this.#guests.flatMap(({ vlan, guestOffloads }) =>
      vlan === 0 && guestOffloads !== null ? [guestOffloads] : [],
    );
    const common = (name: keyof Offloads) =>
      taken.length > 0 && taken.every((offloads) => offloads[name] === true);
    const offloads = new Offloads((name) => common(name.toLowerCase() as keyof Offloads));
    this.#port.configure?.({ headerSize: Header.size, offloads });
  }
}
