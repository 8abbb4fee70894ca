/**
 * Commands of the control queue (virtio 1.3, 5.1.6.5), for front-ends that leave it to the back-end.
 * A command is copied before it is looked at: the driver can change its own at any time.
 */
import type { Chain } from "../../core/chain.ts";
import type { MacList, RxFilter } from "./filter.ts";
import { TABLE_LIMIT } from "./filter.ts";
import { CONTROL_ERROR, CONTROL_OK, Control, MAC_SIZE } from "./wire.ts";

/** The longest command: two tables of addresses. A longer one is refused. */
const MAX_COMMAND = 64 * 1024;

/** What commands change beside the filter. */
export interface ControlTarget {
  readonly filter: RxFilter;
  readonly maxPairs: number;
  /** The filter has changed. */
  filterChanged(): void;
  setMac(mac: Uint8Array): void;
  setPairs(pairs: number): void;
  /** False when the driver did not accept one of these features. */
  setGuestOffloads(features: bigint): boolean;
  announced(): void;
}

/** Serves one command. Returns the bytes written. */
export function handleControl(chain: Chain, target: ControlTarget): number {
  if (chain.writableBytes === 0) return 0;
  const length = chain.readableBytes;
  let done = false;
  if (length >= 2 && length <= MAX_COMMAND) {
    const command = new Uint8Array(length);
    chain.read(command);
    done = execute(command[0]!, command[1]!, command.subarray(2), target);
  }
  chain.writeU8(0, done ? CONTROL_OK : CONTROL_ERROR);
  return 1;
}

function execute(kind: number, command: number, data: Uint8Array, target: ControlTarget): boolean {
  switch (kind) {
    case Control.RX.class:
      return setMode(command, data, target);
    case Control.MAC.class:
      return command === Control.MAC.TABLE_SET
        ? setTables(data, target)
        : command === Control.MAC.ADDR_SET && setAddress(data, target);
    case Control.VLAN.class:
      return setVlan(command, data, target);
    case Control.ANNOUNCE.class:
      if (command !== Control.ANNOUNCE.ACK) return false;
      target.announced();
      return true;
    case Control.MQ.class:
      return command === Control.MQ.VQ_PAIRS_SET && setPairs(data, target);
    case Control.GUEST_OFFLOADS.class:
      return command === Control.GUEST_OFFLOADS.SET && setOffloads(data, target);
    default:
      return false;
  }
}

const viewOf = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.length);

function setMode(mode: number, data: Uint8Array, target: ControlTarget): boolean {
  if (data.length !== 1 || mode >= target.filter.modes.length) return false;
  target.filter.modes[mode] = data[0] === 0 ? 0 : 1;
  target.filterChanged();
  return true;
}

function setAddress(data: Uint8Array, target: ControlTarget): boolean {
  if (data.length !== MAC_SIZE || (data[0]! & 1) !== 0) return false;
  target.setMac(data);
  return true;
}

/** Reads a table: a count and that many addresses. Null when it is cut off. */
function readTable(data: Uint8Array): { list: MacList; size: number } | null {
  if (data.length < 4) return null;
  const count = viewOf(data).getUint32(0, true);
  if (count > (data.length - 4) / MAC_SIZE) return null;
  const size = 4 + count * MAC_SIZE;
  const all = count > TABLE_LIMIT;
  return { list: { all, macs: all ? new Uint8Array(0) : data.slice(4, size) }, size };
}

function setTables(data: Uint8Array, target: ControlTarget): boolean {
  const unicast = readTable(data);
  if (unicast === null) return false;
  const multicast = readTable(data.subarray(unicast.size));
  if (multicast === null || unicast.size + multicast.size !== data.length) return false;
  target.filter.unicast = unicast.list;
  target.filter.multicast = multicast.list;
  target.filterChanged();
  return true;
}

function setVlan(command: number, data: Uint8Array, target: ControlTarget): boolean {
  if (data.length !== 2 || command > Control.VLAN.DEL) return false;
  const id = viewOf(data).getUint16(0, true);
  if (id >= 4096) return false;
  target.filter.setVlan(id, command === Control.VLAN.ADD);
  return true;
}

function setPairs(data: Uint8Array, target: ControlTarget): boolean {
  if (data.length !== 2) return false;
  const pairs = viewOf(data).getUint16(0, true);
  if (pairs < 1 || pairs > target.maxPairs) return false;
  target.setPairs(pairs);
  return true;
}

function setOffloads(data: Uint8Array, target: ControlTarget): boolean {
  return data.length === 8 && target.setGuestOffloads(viewOf(data).getBigUint64(0, true));
}
