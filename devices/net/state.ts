/** What the device on the other side of a migration has to know (vhost-user: Migrating back-end state). */
import { Type } from "typebox";
import { layout, le16, le32, raw } from "../../core/layout.ts";
import { type MacList, type RxFilter, TABLE_LIMIT } from "./filter.ts";
import { MAC_SIZE } from "./wire.ts";

const VERSION = 2;
/** In place of a count: all addresses of the kind. */
const ALL = 0xffff;

const State = layout(
  Type.Object({
    version: le32(),
    mac: raw(MAC_SIZE),
    /** 0 when there is none. */
    mtu: le16(),
    /** Queue pairs in use, 0 when the driver does not say so. */
    pairs: le16(),
    modes: raw(6),
    unicast: le16(),
    multicast: le16(),
    vlans: raw(512),
  }),
);

export interface NetState {
  readonly filter: RxFilter;
  /** In bytes, 0 for none. */
  readonly mtu: number;
  /** Queue pairs in use, 0 when the driver does not say so. */
  readonly pairs: number;
}

const countOf = ({ all, macs }: MacList) => (all ? ALL : macs.length / MAC_SIZE);

/** The fixed part, and the addresses of both lists. */
export function encodeState({ filter, mtu, pairs }: NetState): Uint8Array {
  const { mac, modes, vlans, unicast, multicast } = filter;
  const tables = [unicast.macs, multicast.macs];
  const bytes = new Uint8Array(State.size + tables[0]!.length + tables[1]!.length);
  State.encode(
    {
      version: VERSION,
      mac,
      mtu,
      pairs,
      modes,
      unicast: countOf(unicast),
      multicast: countOf(multicast),
      vlans,
    },
    bytes,
  );
  bytes.set(tables[0]!, State.size);
  bytes.set(tables[1]!, State.size + tables[0]!.length);
  return bytes;
}

/** Puts what `encodeState` made into `filter`. Throws `Error` when it makes no sense; then nothing changes. */
export function decodeState(
  bytes: Uint8Array,
  filter: RxFilter,
  maxPairs: number,
): { mtu: number; pairs: number } {
  if (bytes.length < State.size) {
    throw new Error(`Cannot load ${bytes.length} bytes of state: it has ${State.size} at least`);
  }
  const state = State.decode(bytes);
  if (state.version !== VERSION) {
    throw new Error(`Cannot load state of version ${state.version}: this is version ${VERSION}`);
  }
  if (state.pairs > maxPairs) {
    throw new Error(`Cannot load state with ${state.pairs} queue pairs: there are ${maxPairs}`);
  }
  let at = State.size;
  const list = (count: number): MacList => {
    if (count === ALL) return { all: true, macs: new Uint8Array(0) };
    if (count > TABLE_LIMIT) throw new Error(`Cannot load state with ${count} addresses`);
    const macs = bytes.slice(at, at + count * MAC_SIZE);
    at += count * MAC_SIZE;
    return { all: false, macs };
  };
  const unicast = list(state.unicast);
  const multicast = list(state.multicast);
  if (at !== bytes.length) {
    throw new Error(`Cannot load ${bytes.length} bytes of state: its lists need ${at}`);
  }
  filter.mac = state.mac;
  filter.modes.set(state.modes);
  filter.vlans.set(state.vlans);
  filter.unicast = unicast;
  filter.multicast = multicast;
  return { mtu: state.mtu, pairs: state.pairs };
}
