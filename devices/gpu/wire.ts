/** The GPU's numbers and layouts (virtio 1.3, 5.7). */
import { Type } from "typebox";
import { layout, le32 } from "../../core/layout.ts";

/** Feature bits (virtio 1.3, 5.7.3). */
export const GpuFeature = {
  VIRGL: 0,
  EDID: 1,
  RESOURCE_UUID: 2,
  RESOURCE_BLOB: 3,
  CONTEXT_INIT: 4,
} as const;

/** Config space (virtio 1.3, 5.7.4). */
export const GpuConfig = layout(
  Type.Object({ eventsRead: le32(), eventsClear: le32(), numScanouts: le32(), numCapsets: le32() }),
);

/** VIRTIO_GPU_MAX_SCANOUTS. */
export const MAX_SCANOUTS = 16;

/** Bytes of a pixel, in every format there is. */
export const PIXEL = 4;

/** Side of a cursor, in pixels (virtio 1.3, 5.7.6.10). */
export const CURSOR_SIDE = 64;

/** virtio_gpu_ctrl_hdr, which begins every command and response (virtio 1.3, 5.7.6.7). */
export const Header = {
  size: 24,
  type: 0,
  flags: 4,
  fence: 8,
  context: 16,
  ring: 20,
} as const;

/** `Header.flags`. */
export const HeaderFlag = { FENCE: 1, INFO_RING_IDX: 2 } as const;

/** Types of commands (virtio 1.3, 5.7.6.7). */
export const Command = {
  GET_DISPLAY_INFO: 0x100,
  RESOURCE_CREATE_2D: 0x101,
  RESOURCE_UNREF: 0x102,
  SET_SCANOUT: 0x103,
  RESOURCE_FLUSH: 0x104,
  TRANSFER_TO_HOST_2D: 0x105,
  RESOURCE_ATTACH_BACKING: 0x106,
  RESOURCE_DETACH_BACKING: 0x107,
  GET_CAPSET_INFO: 0x108,
  GET_CAPSET: 0x109,
  GET_EDID: 0x10a,
  RESOURCE_ASSIGN_UUID: 0x10b,
  RESOURCE_CREATE_BLOB: 0x10c,
  SET_SCANOUT_BLOB: 0x10d,
  CTX_CREATE: 0x200,
  CTX_DESTROY: 0x201,
  CTX_ATTACH_RESOURCE: 0x202,
  CTX_DETACH_RESOURCE: 0x203,
  RESOURCE_CREATE_3D: 0x204,
  TRANSFER_TO_HOST_3D: 0x205,
  TRANSFER_FROM_HOST_3D: 0x206,
  SUBMIT_3D: 0x207,
  UPDATE_CURSOR: 0x300,
  MOVE_CURSOR: 0x301,
} as const;

/** Types of responses. */
export const Response = {
  OK_NODATA: 0x1100,
  OK_DISPLAY_INFO: 0x1101,
  OK_CAPSET_INFO: 0x1102,
  OK_CAPSET: 0x1103,
  OK_EDID: 0x1104,
  OK_RESOURCE_UUID: 0x1105,
  ERR_UNSPEC: 0x1200,
  ERR_OUT_OF_MEMORY: 0x1201,
  ERR_INVALID_SCANOUT_ID: 0x1202,
  ERR_INVALID_RESOURCE_ID: 0x1203,
  ERR_INVALID_CONTEXT_ID: 0x1204,
  ERR_INVALID_PARAMETER: 0x1205,
} as const;

/** A rectangle's place in the commands that have one: x, y, width, height, each a u32. */
export const RECT = 24;

/** Commands by their fields' offsets, `size` without what follows the fixed part. */
export const Create2d = { size: 40, resource: 24, format: 28, width: 32, height: 36 } as const;
/** UNREF, DETACH_BACKING and ASSIGN_UUID. */
export const ResourceOnly = { size: 32, resource: 24 } as const;
export const SetScanout = { size: 48, scanout: 40, resource: 44 } as const;
export const Flush = { size: 48, resource: 40 } as const;
export const Transfer = { size: 56, offset: 40, resource: 48 } as const;
/** Followed by `count` entries. */
export const Attach = { size: 32, resource: 24, count: 28 } as const;
/** virtio_gpu_mem_entry. */
export const Entry = { size: 16, address: 0, length: 8 } as const;
export const GetEdid = { size: 32, scanout: 24 } as const;
/** Followed by `count` entries. */
export const CreateBlob = {
  size: 56,
  resource: 24,
  memory: 28,
  flags: 32,
  count: 36,
  blob: 40,
  bytes: 48,
} as const;
export const SetScanoutBlob = {
  size: 96,
  scanout: 40,
  resource: 44,
  width: 48,
  height: 52,
  format: 56,
  stride: 64,
  offset: 80,
} as const;
/** UPDATE_CURSOR and MOVE_CURSOR. */
export const Cursor = {
  size: 56,
  scanout: 24,
  x: 28,
  y: 32,
  resource: 40,
  hotX: 44,
  hotY: 48,
} as const;

/** CTX_CREATE. `init`: the capset in its low 8 bits, with CONTEXT_INIT. */
export const CreateContext = {
  size: 96,
  nameLength: 24,
  init: 28,
  name: 32,
  maxName: 64,
  capsetMask: 0xff,
} as const;
/** CTX_ATTACH_RESOURCE and CTX_DETACH_RESOURCE. */
export const ContextResource = { size: 32, resource: 24 } as const;
/** `target` and all that follows it are u32, up to and including `flags`. */
export const Create3d = { size: 72, resource: 24, target: 28, flags: 64 } as const;
/** TRANSFER_TO_HOST_3D and TRANSFER_FROM_HOST_3D. `box`: x, y, z, width, height, depth. */
export const Transfer3d = {
  size: 72,
  box: 24,
  offset: 48,
  resource: 56,
  level: 60,
  stride: 64,
  layerStride: 68,
} as const;
/** Followed by `bytes` of commands. */
export const Submit3d = { size: 32, bytes: 24 } as const;
export const GetCapsetInfo = { size: 32, index: 24 } as const;
export const GetCapset = { size: 32, id: 24, version: 28 } as const;
/** virtio_gpu_resp_capset_info: id, latest version, size. */
export const CapsetInfoResponse = { size: 40, id: 24, version: 28, bytes: 32 } as const;

/** Capsets (virtio 1.3, 5.7.6.8). */
export const CAPSET_VIRGL = 1;
export const CAPSET_VIRGL2 = 2;

/** `CreateBlob.memory`: the guest's own, the only kind that needs no 3D. */
export const BLOB_MEM_GUEST = 1;
/** All of `CreateBlob.flags`. */
export const BLOB_FLAGS = 7;

/** virtio_gpu_resp_display_info: per scanout x, y, width, height, enabled, flags. */
export const DisplayInfo = {
  size: 408,
  modes: 24,
  mode: { size: 24, x: 0, y: 4, width: 8, height: 12, enabled: 16 },
} as const;
/** virtio_gpu_resp_edid; `bytes` has room for 1024. */
export const EdidResponse = { size: 1056, length: 24, bytes: 32 } as const;
/** virtio_gpu_resp_resource_uuid. */
export const UuidResponse = { size: 40, uuid: 24 } as const;
