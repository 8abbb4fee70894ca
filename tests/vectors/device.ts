/**
 * The device that the vectors talk to: two queues, a config space of 16 bytes, and a part in
 * everything that a device can take part in.
 */
import { type TObject, Type } from "typebox";
import { type AnyDevice, defineDevice, type FrontEndServices } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { type Layout, layout, le32, le64, raw, u8 } from "../../core/layout.ts";
import { bytes, createMemfd, type Fd } from "../../ffi/mod.ts";

const config = layout(
  Type.Object({ capacity: le64(), level: le32(), switch: u8(), padding: raw(3) }),
);

const initial = { capacity: 0x1122334455667788n, level: 0xaabbccdd, switch: 1 };

/** What the device saves, and the only thing that it loads. */
export const STATE = bytes(5).fill(0xab);

const SESSION = 7n;

/** What becomes of a request is not the vectors' business. */
const ignore = (request: Promise<unknown>): void => void request.catch(() => {});

function withMemory(act: (fd: Fd) => Promise<unknown>): void {
  using fd = createMemfd("ringside-vectors", 0x10000);
  ignore(act(fd));
}

const shared = new Map<string, { object: Disposable; fd: Fd }>();

/** What the device can be made to do, with a word to go with it. */
export const tricks: Readonly<Record<string, (frontEnd: FrontEndServices, word: string) => void>> =
  {
    share(frontEnd, uuid) {
      const fd = createMemfd("ringside-vectors", 0x1000);
      shared.set(uuid, { object: frontEnd.shareObject(uuid, fd.number), fd });
    },
    unshare(_, uuid) {
      const { object, fd } = shared.get(uuid)!;
      object[Symbol.dispose]();
      fd.close();
    },
    lookup(frontEnd, uuid) {
      ignore(frontEnd.lookupObject(uuid).then((fd) => fd?.close()));
    },
    map(frontEnd, offset) {
      const mapping = { offset: Number(offset), length: 0x1000, fdOffset: 0x2000, writable: true };
      withMemory((fd) => frontEnd.mapShared(2, { fd, ...mapping }));
    },
    unmap(frontEnd, offset) {
      ignore(frontEnd.unmapShared(2, { offset: Number(offset), length: 0x1000 }));
    },
    notifier(frontEnd, queue) {
      withMemory((fd) => frontEnd.setHostNotifier(Number(queue), { fd, offset: 0, size: 0x1000 }));
    },
    unnotifier(frontEnd, queue) {
      ignore(frontEnd.setHostNotifier(Number(queue), null));
    },
  };

export const vectorDevice: AnyDevice = defineDevice({
  type: "rng",
  id: 4,
  summary: "Answers the vectors",
  options: Type.Object({}),
  features: { FIRST: 0, TENTH: 10 },
  config: config as unknown as Layout<TObject>,
  queues: [{ name: "first" }, { name: "second" }],
  minQueues: 1,
  protocol: ["RARP", "NET_MTU", "CRYPTO_SESSION", "HOST_NOTIFIER", "SHARED_OBJECT", "DEVICE_STATE"],
  sharedMemory: [0x10000, 0, 0x4000],
  open: (_, host) => ({
    config: initial,
    device: {
      handle: () => 0,
      writeConfig(at, data) {
        if (at !== config.offset.switch || data.length !== 1) {
          throw new ProtocolError("only the switch can be written");
        }
        host.updateConfig({ switch: data[0]! });
      },
      rarp: (mac) => host.updateConfig({ capacity: BigInt(mac[5]!) }),
      mtu(size) {
        if (size > 9000) throw new ProtocolError("packets of more than 9000 bytes do not fit");
        host.updateConfig({ capacity: BigInt(size) });
      },
      displaySocket(socket) {
        socket.close();
        host.updateConfig({ level: 0x21 });
      },
      createCryptoSession({ kind }) {
        if (kind === "asymmetric") throw new ProtocolError("only symmetric ciphers are there");
        return SESSION;
      },
      closeCryptoSession(id) {
        if (id !== SESSION) throw new ProtocolError(`there is no session ${id}`);
      },
      save: () => STATE,
      load(state) {
        if (Buffer.compare(state, STATE) !== 0) throw new Error("this is the state of no device");
      },
      reset: () => host.updateConfig(initial),
      disconnected: () => host.updateConfig(initial),
    },
  }),
});
