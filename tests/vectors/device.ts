/** The device that the vectors talk to: two queues, and a config space of 16 bytes. */
import { type TObject, Type } from "typebox";
import { type AnyDevice, defineDevice } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { type Layout, layout, le32, le64, raw, u8 } from "../../core/layout.ts";

const config = layout(
  Type.Object({ capacity: le64(), level: le32(), switch: u8(), padding: raw(3) }),
);

const initial = { capacity: 0x1122334455667788n, level: 0xaabbccdd, switch: 1 };

export const vectorDevice: AnyDevice = defineDevice({
  type: "rng",
  id: 4,
  summary: "Answers the vectors",
  options: Type.Object({}),
  features: { FIRST: 0, TENTH: 10 },
  config: config as unknown as Layout<TObject>,
  queues: [{ name: "first" }, { name: "second" }],
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
      reset: () => host.updateConfig(initial),
      disconnected: () => host.updateConfig(initial),
    },
  }),
});
