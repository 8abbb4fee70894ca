/** The network device's numbers as its driver knows them (virtio 1.3, 5.1). */
import { Type } from "typebox";
import { layout, le16, le32, raw, u8 } from "../../core/layout.ts";

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

/** 5.1.4. */
export const NetConfigSpace = layout(
  Type.Object({
    mac: raw(6),
    status: le16(),
    maxPairs: le16(),
    mtu: le16(),
    speed: le32(),
    duplex: u8(),
  }),
);

/** 5.1.6; without VERSION_1 and MRG_RXBUF it ends before `buffers`. */
export const NetHeader = layout(
  Type.Object({
    flags: u8(),
    gsoType: u8(),
    hdrLen: le16(),
    gsoSize: le16(),
    csumStart: le16(),
    csumOffset: le16(),
    buffers: le16(),
  }),
);
