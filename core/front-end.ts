/** What a device asks of the front-end that is connected, and what it shares with all of them. */
import { type Fd, PAGE_SIZE } from "../ffi/mod.ts";
import type { FrontEndServices, HostNotifierArea, SharedMapping, SharedRange } from "./device.ts";
import { ShmemConfig, ShmemMap, Uuid, VringArea } from "./payloads.ts";
import { type BackEndMessage, ProtocolFeature, VRING_NO_FD } from "./protocol.ts";
import type { Answer, RequestChannel } from "./request-channel.ts";
import type { Session } from "./session.ts";

/** Shared memory regions that a device may have. */
const MAX_REGIONS = 256;
const WRITABLE = 1n;

/** The bytes of a UUID as it is written, which is the order of the wire. */
export function uuidBytes(uuid: string): Uint8Array {
  if (!/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(uuid)) {
    throw new TypeError(`Cannot use "${uuid}" as a UUID`);
  }
  const digits = uuid.replaceAll("-", "").match(/../g)!;
  return Uint8Array.from(digits, (byte) => Number.parseInt(byte, 16));
}

const keyOf = (uuid: Uint8Array): string => uuid.join();

export class FrontEnd implements FrontEndServices {
  /** Sizes of the device's shared memory regions by id. */
  readonly sharedMemory: readonly number[];
  /** The session that is served now. */
  session: Session | null = null;
  readonly #objects = new Map<string, { uuid: Uint8Array; fd: number }>();

  constructor(sharedMemory: readonly number[]) {
    const odd = sharedMemory.find((size) => !Number.isSafeInteger(size) || size % PAGE_SIZE !== 0);
    if (odd !== undefined || sharedMemory.length > MAX_REGIONS) {
      throw new RangeError(
        `Cannot share ${odd ?? sharedMemory.length} ${odd === undefined ? "regions" : "bytes"}: ` +
          `there are at most ${MAX_REGIONS} regions of whole pages of ${PAGE_SIZE} bytes`,
      );
    }
    this.sharedMemory = [...sharedMemory];
  }

  /** The reply to GET_SHMEM_CONFIG. */
  get shmemConfig(): Uint8Array {
    const sizes = this.sharedMemory.map(BigInt);
    return ShmemConfig.encode({ count: sizes.filter((size) => size > 0n).length, sizes });
  }

  /** Tells a front-end that can now be asked what is shared. */
  announce(session: Session): void {
    if (!session.hasProtocol(ProtocolFeature.SHARED_OBJECT)) return;
    for (const { uuid } of this.#objects.values()) {
      session.requests?.send("SHARED_OBJECT_ADD", Uuid.encode({ uuid }));
    }
  }

  /** The descriptor of a shared object, or null. */
  sharedObject(uuid: Uint8Array): number | null {
    return this.#objects.get(keyOf(uuid))?.fd ?? null;
  }

  shareObject(text: string, fd: number): Disposable {
    const uuid = uuidBytes(text);
    const key = keyOf(uuid);
    if (this.#objects.has(key)) throw new Error(`Cannot share ${text} twice`);
    const object = { uuid, fd };
    this.#objects.set(key, object);
    this.#send("SHARED_OBJECT_ADD", Uuid.encode(object));
    return {
      [Symbol.dispose]: () => {
        if (this.#objects.get(key) !== object) return;
        this.#objects.delete(key);
        this.#send("SHARED_OBJECT_REMOVE", Uuid.encode(object));
      },
    };
  }

  async lookupObject(uuid: string): Promise<Fd | null> {
    const payload = Uuid.encode({ uuid: uuidBytes(uuid) });
    const channel = this.#channel("SHARED_OBJECT_LOOKUP", ProtocolFeature.SHARED_OBJECT);
    const { value, fd }: Answer = await channel.ask("SHARED_OBJECT_LOOKUP", payload);
    if (value === 0n) return fd;
    fd?.close();
    return null;
  }

  async mapShared(region: number, mapping: SharedMapping): Promise<void> {
    const { fd, fdOffset = 0, writable = false } = mapping;
    const payload = ShmemMap.encode({
      ...this.#range(region, mapping),
      fdOffset: BigInt(fdOffset),
      flags: writable ? WRITABLE : 0n,
    });
    await this.#request("SHMEM_MAP", ProtocolFeature.SHMEM, payload, [fd]);
  }

  async unmapShared(region: number, range: SharedRange): Promise<void> {
    const payload = ShmemMap.encode(this.#range(region, range));
    await this.#request("SHMEM_UNMAP", ProtocolFeature.SHMEM, payload);
  }

  async setHostNotifier(queue: number, area: HostNotifierArea | null): Promise<void> {
    const queues = this.session?.backend.queues;
    if (queues !== undefined && queues[queue] === undefined) {
      throw new RangeError(`Cannot set a notifier of vring ${queue}: there are ${queues.length}`);
    }
    const payload = VringArea.encode({
      index: BigInt(queue | (area === null ? VRING_NO_FD : 0)),
      size: BigInt(area?.size ?? 0),
      offset: BigInt(area?.offset ?? 0),
    });
    const fds = area === null ? [] : [area.fd];
    await this.#request("VRING_HOST_NOTIFIER_MSG", ProtocolFeature.HOST_NOTIFIER, payload, fds);
  }

  #range(region: number, { offset, length }: SharedRange) {
    const size = this.sharedMemory[region] ?? 0;
    const whole = offset % PAGE_SIZE === 0 && length % PAGE_SIZE === 0 && length > 0;
    if (!whole || offset < 0 || offset + length > size) {
      throw new RangeError(
        `Cannot map ${length} bytes at ${offset} of shared memory region ${region}: ` +
          `it has ${size} bytes, in pages of ${PAGE_SIZE}`,
      );
    }
    return { region, regionOffset: BigInt(offset), length: BigInt(length) };
  }

  #channel(name: BackEndMessage, feature: number): RequestChannel {
    const { session } = this;
    if (session === null) throw new Error(`Cannot send ${name}: no front-end is connected`);
    if (!session.hasProtocol(feature) || session.requests === null) {
      throw new Error(`Cannot send ${name}: the front-end does not take it`);
    }
    return session.requests;
  }

  async #request(
    name: BackEndMessage,
    feature: number,
    payload: Uint8Array,
    fds: readonly Fd[] = [],
  ): Promise<void> {
    const value = await this.#channel(name, feature).request(name, payload, fds);
    if (value !== 0n) throw new Error(`The front-end refused ${name}: it answered ${value}`);
  }

  #send(name: BackEndMessage, payload: Uint8Array): void {
    const { session } = this;
    if (session?.hasProtocol(ProtocolFeature.SHARED_OBJECT)) session.requests?.send(name, payload);
  }
}
