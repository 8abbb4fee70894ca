/** A network driver over any number of queue pairs (virtio 1.3, 5.1). */
import type { Static } from "typebox";
import { has, mask, RingFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { BackEndError } from "../errors.ts";
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import { protocolFeatures, ringFeatures } from "../negotiation.ts";
import { NetPair } from "./net-pair.ts";
import { NetConfigSpace, NetFeature } from "./net-wire.ts";
import { SimpleQueue } from "./simple.ts";

export interface NetOptions extends FrontendOptions {
  /** Queue pairs to use; 1 by default. */
  readonly pairs?: number;
  /** Queue pairs that the device has, where its config space cannot be read; `pairs` by default. */
  readonly maxPairs?: number;
  /** Descriptors per ring; 128 by default. */
  readonly ringSize?: number;
  /** Bytes of each buffer to receive into; 2048 by default. */
  readonly bufferSize?: number;
  /** Bytes of a frame that is sent, at most; 65553 by default. */
  readonly maxFrame?: number;
  /** Buffers to provide at the start; as many as the ring has descriptors by default. */
  readonly buffers?: number;
  /** Descriptors of the control queue's ring; 0 for none, which is the default. */
  readonly controlSize?: number;
}

export type NetConfig = Static<typeof NetConfigSpace.schema>;

/** What this driver accepts: all but the offloads and the control queue. */
export const netFeatures: bigint =
  ringFeatures |
  mask(
    NetFeature.MRG_RXBUF,
    NetFeature.MAC,
    NetFeature.MTU,
    NetFeature.STATUS,
    NetFeature.MQ,
    NetFeature.SPEED_DUPLEX,
  );

/** Protocol features with the parts of a network device. */
export const netProtocol: bigint =
  protocolFeatures |
  mask(ProtocolFeature.RARP, ProtocolFeature.NET_MTU, ProtocolFeature.DEVICE_STATE);

export class NetDriver implements Disposable {
  readonly frontend: Frontend;
  readonly pairs: readonly NetPair[];
  readonly #control: SimpleQueue | null;

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, options: NetOptions = {}) {
    const { pairs = 1, ringSize = 128, bufferSize = 2048, maxFrame = 65_553 } = options;
    const { features } = frontend;
    this.frontend = frontend;
    const mergeable = has(features, NetFeature.MRG_RXBUF);
    const headerSize = mergeable || has(features, RingFeature.VERSION_1) ? 12 : 10;
    this.pairs = Array.from({ length: pairs }, (_, i) => {
      const rx = frontend.addVring(2 * i, { size: ringSize });
      const tx = frontend.addVring(2 * i + 1, { size: ringSize });
      const settings = { bufferSize, maxFrame, headerSize, mergeable };
      return new NetPair(rx, tx, frontend.memory, settings);
    });
    const { controlSize = 0, maxPairs = pairs } = options;
    const index = has(features, NetFeature.MQ) ? 2 * maxPairs : 2;
    this.#control =
      controlSize > 0 ? new SimpleQueue(frontend, { index, ringSize: controlSize }) : null;
    frontend.start();
    for (const pair of this.pairs) pair.fill(options.buffers);
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: NetOptions = {}): NetDriver {
    const { features = netFeatures, protocol = netProtocol } = options;
    const settings = { ...options, features, protocol };
    const frontend = Frontend.open(to, settings);
    try {
      return new NetDriver(frontend, settings);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  /** The first pair. */
  get pair(): NetPair {
    return this.pairs[0]!;
  }

  /** Reads the config space. */
  config(): NetConfig {
    const bytes = this.frontend.getConfig(0, NetConfigSpace.size);
    if (bytes === null) throw new BackEndError("refused", "The config space cannot be read");
    return NetConfigSpace.decode(bytes);
  }

  /** Gives a command on the control queue. True when the device says that it is done. */
  command(kind: number, command: number, ...data: readonly number[]): boolean {
    const [answer] = this.#control!.exchange(Uint8Array.of(kind, command, ...data), 1);
    return answer === 0;
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}
