/** The network device's numbers and layouts (virtio 1.3, 5.1). */
import { Type } from "typebox";
import { layout, le16, le32, raw, u8 } from "../../core/layout.ts";

/** Feature bits (virtio 1.3, 5.1.3). */
export const NetFeature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  CTRL_RX_EXTRA: 20,
  GUEST_ANNOUNCE: 21,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  GUEST_USO4: 54,
  GUEST_USO6: 55,
  HOST_USO: 56,
  SPEED_DUPLEX: 63,
} as const;

export type NetFeatureName = keyof typeof NetFeature;

/** Config space (virtio 1.3, 5.1.4). */
export const NetConfig = layout(
  Type.Object({
    mac: raw(6),
    status: le16(),
    maxVirtqueuePairs: le16(),
    mtu: le16(),
    /** In Mbit/s. */
    speed: le32(),
    duplex: u8(),
    rssMaxKeySize: u8(),
    rssMaxIndirectionTableLength: le16(),
    supportedHashTypes: le32(),
  }),
);

/** `status` of the config space. */
export const NetStatus = { LINK_UP: 1, ANNOUNCE: 2 } as const;
/** `speed` and `duplex` that say nothing. */
export const SPEED_UNKNOWN = 0xffffffff;
export const DUPLEX_FULL = 1;
export const DUPLEX_UNKNOWN = 0xff;

/**
 * The header before each frame (virtio 1.3, 5.1.6). Without VERSION_1 and MRG_RXBUF it ends before
 * the number of buffers.
 */
export const Header = {
  size: 12,
  legacySize: 10,
  flags: 0,
  gsoType: 1,
  hdrLen: 2,
  gsoSize: 4,
  csumStart: 6,
  csumOffset: 8,
  numBuffers: 10,
} as const;

/** `flags` of the header. */
export const HeaderFlag = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;
/** `gsoType` of the header. */
export const Gso = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** Commands of the control queue by class (virtio 1.3, 5.1.6.5). */
export const Control = {
  RX: { class: 0, PROMISC: 0, ALLMULTI: 1, ALLUNI: 2, NOMULTI: 3, NOUNI: 4, NOBCAST: 5 },
  MAC: { class: 1, TABLE_SET: 0, ADDR_SET: 1 },
  VLAN: { class: 2, ADD: 0, DEL: 1 },
  ANNOUNCE: { class: 3, ACK: 0 },
  MQ: { class: 4, VQ_PAIRS_SET: 0 },
  GUEST_OFFLOADS: { class: 5, SET: 0 },
} as const;
export const CONTROL_OK = 0;
export const CONTROL_ERROR = 1;

/** Bytes of an Ethernet header, and of an address in it. */
export const ETHERNET_HEADER = 14;
export const MAC_SIZE = 6;
/** Bytes that a VLAN tag adds. */
export const VLAN_TAG = 4;
/** The longest frame: an IP packet that is to be cut, with a VLAN tag. */
export const MAX_FRAME = 65_535 + ETHERNET_HEADER + VLAN_TAG;
