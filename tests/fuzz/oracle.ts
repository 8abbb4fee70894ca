/** What a back-end must be like after every burst, whatever the burst was. */
import { sleep } from "../bad-input/client.ts";
import type { Arena } from "./arena.ts";
import { Finding } from "./finding.ts";
import { Session } from "./session.ts";
import type { Holdings, Target } from "./target.ts";

/** Room for the runtime's own heaps, in KiB and in mappings. */
const VM_SLACK = 512 * 1024;
const RSS_SLACK = 512 * 1024;
const MAPS_SLACK = 1500;
/** How long descriptors may take to settle, in milliseconds. */
const SETTLE_LIMIT = 3_000;
/** Mappings are counted once in so many bursts: the kernel takes its time to list them. */
const MAPS_INTERVAL = 8;

const wellFormed = /^[a-z-]+: (error|warn|info|debug): [A-Z]/;
/** What an engine says when a program is wrong, and how we say that a device is. */
const mistakes = [
  /the device failed/i,
  /\b(Type|Range|Reference|Syntax|Internal)Error\b/,
  /\.ts:\d+|\b(undefined|NaN)\b/,
  /undefined is not|is not (a function|an object|defined|iterable)|cannot read propert/i,
  /out of (bounds|range|memory)|invalid (typed )?array|offset is outside/i,
  /Invalid (FFI|time)|BigInt|stack (size|overflow)|Maximum call/i,
  // But a state may be read from a descriptor that is open for writing only.
  /Refused .*\bsendmsg\b|\bEFAULT\b|Refused (?!CHECK_DEVICE_STATE).*\bEBADF\b/,
];

interface Baseline extends Holdings {
  readonly descriptors: ReadonlyMap<string, number>;
  readonly guest: number;
  readonly maps: number;
}

export class Oracle {
  readonly #target: Target;
  readonly #arena: Arena;
  readonly #baseline: Baseline;
  #checks = 0;
  /** Protocol features that the back-end offers. */
  readonly offered: bigint;
  readonly queues: number;

  /** Measures a fresh back-end. */
  constructor(target: Target, arena: Arena) {
    this.#target = target;
    this.#arena = arena;
    // What is made once, at the first use, must not look like a leak.
    for (let i = 0; i < 3; i++) this.#serves(i, () => {});
    let baseline: Baseline | null = null;
    let offered = 0n;
    let queues = 0;
    this.#serves(3, ({ client }) => {
      offered = client.askU64("GET_PROTOCOL_FEATURES");
      queues = Number(client.askU64("GET_QUEUE_NUM"));
      sleep(50);
      const { all, guest } = target.mappings();
      const descriptors = target.descriptors();
      baseline = { ...target.holdings(), descriptors, guest, maps: all };
    });
    this.#baseline = baseline!;
    this.offered = offered;
    this.queues = queues;
  }

  /** Throws `Finding` when something is not as it must be. */
  check(seed: number): void {
    const target = this.#target;
    if (!target.alive) throw new Finding("The back-end died");
    const maps = ++this.#checks % MAPS_INTERVAL === 0;
    this.#serves(seed, () => {
      this.#sameHoldings();
      if (maps) this.#sameMappings();
    });
    this.#explains();
  }

  /** Runs verified requests in a fresh session, and `inspect` while it is there. */
  #serves(seed: number, inspect: (session: Session) => void): void {
    const { socket, variant } = this.#target;
    const { device } = variant;
    const rings = device === "rng" ? 1 : 2;
    try {
      this.#arena.clear();
      using session = new Session(socket, this.#arena, { rings });
      for (const ring of session.rings) session.verify(device, ring, seed);
      inspect(session);
    } catch (error) {
      if (error instanceof Finding) throw error;
      // A process that is dying closes its sockets first.
      sleep(200);
      const state = this.#target.alive ? "" : ": the back-end died";
      throw new Finding(`A fresh session is not served: ${(error as Error).message}${state}`);
    }
  }

  #sameHoldings(): void {
    const before = this.#baseline;
    let now = this.#target.holdings();
    for (const until = performance.now() + SETTLE_LIMIT; now.fds !== before.fds; ) {
      if (performance.now() > until) throw new Finding(this.#leak());
      sleep(10);
      now = this.#target.holdings();
    }
    if (now.vmSize > before.vmSize + VM_SLACK) {
      throw new Finding(`VmSize grew from ${before.vmSize} to ${now.vmSize} KiB`);
    }
    if (now.rss > before.rss + RSS_SLACK) {
      throw new Finding(`RSS grew from ${before.rss} to ${now.rss} KiB`);
    }
  }

  #leak(): string {
    const { descriptors: before } = this.#baseline;
    const now = this.#target.descriptors();
    const changes = [...new Set([...before.keys(), ...now.keys()])]
      .map((kind) => [kind, before.get(kind) ?? 0, now.get(kind) ?? 0] as const)
      .filter(([, was, is]) => was !== is)
      .map(([kind, was, is]) => `${kind}: ${was} before, ${is} now`);
    return `Descriptors leaked: ${changes.join("; ")}`;
  }

  #sameMappings(): void {
    const before = this.#baseline;
    const { all, guest } = this.#target.mappings();
    if (guest !== before.guest) {
      throw new Finding(`Guest memory mapped: ${before.guest} bytes before, ${guest} now`);
    }
    if (all > before.maps + MAPS_SLACK) {
      throw new Finding(`Mappings grew from ${before.maps} to ${all}`);
    }
  }

  #explains(): void {
    for (const line of this.#target.newLines()) {
      if (!wellFormed.test(line)) throw new Finding(`The log has more than a line: ${line}`);
      if (mistakes.some((pattern) => pattern.test(line))) {
        throw new Finding(`Bad input was run into instead of refused: ${line}`);
      }
    }
  }
}
