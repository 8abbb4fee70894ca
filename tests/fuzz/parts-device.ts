/**
 * A device with a part in everything that a device can have a part in, so that a fuzzer reaches
 * every message. What it gets in a chain it returns with each byte XORed; every fourth chain is
 * completed later.
 */
import { type TObject, Type } from "typebox";
import type { Chain } from "../../core/chain.ts";
import { type DeclaredProtocol, declaredParts } from "../../core/declared-protocol.ts";
import { type Device, defineDevice, type Host, PENDING } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { layout, le32, le64, raw } from "../../core/layout.ts";
import { bytes, createMemfd, type Fd } from "../../ffi/mod.ts";

/** What each byte of an answer differs in from the byte that was sent. */
export const ECHO = 0x5a;
/** Bytes that one chain gets back at most. */
const ECHO_LIMIT = 65_536;
const MAX_SESSIONS = 64;
const MAX_STATE = 4096;
const PAGE = 4096;
const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const SHARED_SIZES = [16 * PAGE, 0, 4 * PAGE];

const config = layout(Type.Object({ number: le64(), level: le32(), padding: raw(52) }));

/** Requests to the front-end, each made by the value of a message. */
function askers({ frontEnd }: Host) {
  let object: { shared: Disposable; fd: Fd } | null = null;
  const unshare = (): void => {
    object?.shared[Symbol.dispose]();
    object?.fd.close();
    object = null;
  };
  const withMemory = async (act: (fd: Fd) => Promise<unknown>) => {
    using fd = createMemfd("fuzz-device", 16 * PAGE);
    await act(fd);
  };
  const requests: readonly ((value: number) => Promise<unknown> | undefined)[] = [
    (value) =>
      withMemory((fd) =>
        frontEnd.mapShared(value & 2, { fd, offset: PAGE * (value & 3), length: PAGE }),
      ),
    (value) => frontEnd.unmapShared(value & 2, { offset: PAGE * (value & 3), length: PAGE }),
    (value) =>
      withMemory((fd) =>
        frontEnd.setHostNotifier(
          value & 3,
          (value & 4) === 0 ? { fd, offset: 0, size: PAGE } : null,
        ),
      ),
    () => frontEnd.lookupObject(UUID).then((fd) => fd?.close()),
    () => {
      if (object !== null) unshare();
      else {
        const fd = createMemfd("fuzz-object", PAGE);
        object = { shared: frontEnd.shareObject(UUID, fd.number), fd };
      }
      return undefined;
    },
  ];
  return { requests, unshare };
}

/** Answers what came in. Returns the bytes written. */
function echo(chain: Chain, data: Uint8Array<ArrayBuffer>): number {
  const length = Math.min(chain.readableBytes, chain.writableBytes, ECHO_LIMIT);
  const copy = data.subarray(0, length);
  chain.read(copy);
  for (let i = 0; i < length; i++) copy[i]! ^= ECHO;
  chain.write(copy);
  return length;
}

function hooks(host: Host<typeof config.schema>): Device {
  const { requests, unshare } = askers(host as unknown as Host);
  const sessions = new Set<bigint>();
  const data = bytes(ECHO_LIMIT);
  let made = 0n;
  let handled = 0;
  /** Front-ends may refuse or go away; that is theirs to fuzz. */
  const ask = (value: number): void => {
    requests[value % requests.length]!(value)?.catch(() => {});
  };
  return {
    handle(chain) {
      if ((++handled & 3) !== 0) return echo(chain, data);
      const held = chain.hold();
      setTimeout(() => held.complete(held.live ? echo(held, data) : 0), (handled >> 2) & 1);
      return PENDING;
    },
    writeConfig(at, written) {
      if (at >= 32) throw new ProtocolError("the end of the config space is read-only");
      host.updateConfig({ level: written[0]! });
    },
    rarp(mac) {
      host.updateConfig({ number: BigInt(mac[5]!) });
      ask(mac[5]!);
    },
    async mtu(size) {
      ask(size);
      await Promise.resolve();
      if (size > 9000) throw new ProtocolError("packets of more than 9000 bytes do not fit");
    },
    createCryptoSession({ operation }) {
      if (sessions.size >= MAX_SESSIONS) throw new ProtocolError("there are too many sessions");
      made++;
      sessions.add(made);
      return (operation & 2) === 0 ? made : Promise.resolve(made);
    },
    displaySocket: (socket) => socket.close(),
    closeCryptoSession(id) {
      if (!sessions.delete(id)) throw new ProtocolError(`there is no session ${id}`);
    },
    // It fits a pipe, which nobody reads while the front-end waits for an answer.
    save: async () => new Uint8Array(made > 9n ? 50_000 : 100),
    load(state) {
      if (state.length > MAX_STATE) throw new Error("the state is too long");
    },
    reset: () => sessions.clear(),
    disconnected() {
      sessions.clear();
      unshare();
    },
  };
}

/** Hooks that this file does not know yet: they agree to everything. */
function withEveryHook(device: Device): Device {
  const names = Object.values(declaredParts).flatMap((part) => part.hooks as readonly string[]);
  const agreeing = Object.fromEntries(names.map((name) => [name, () => undefined]));
  return { ...agreeing, ...device } as Device;
}

export default defineDevice({
  type: "rng",
  name: "fuzz-parts",
  id: 4,
  summary: "Takes part in every optional part of the protocol",
  options: Type.Object({}),
  features: { FIRST: 0, TENTH: 10 },
  config: config as unknown as ReturnType<typeof layout<TObject>>,
  queues: ["one", "two", "three", "four"].map((name) => ({ name })),
  minQueues: 1,
  protocol: Object.keys(declaredParts) as DeclaredProtocol[],
  sharedMemory: SHARED_SIZES,
  async: true,
  open: (_, host) => ({
    config: { number: 1n, level: 2 },
    device: withEveryHook(hooks(host as unknown as Host<typeof config.schema>)),
  }),
});
