/** 2D commands of the control queue (virtio 1.3, 5.7.6.8). */
import type { Chain } from "../../core/chain.ts";
import { has } from "../../core/features.ts";
import { Backing, MAX_ENTRIES } from "./backing.ts";
import { Order, orderOf, reorder } from "./formats.ts";
import { Image } from "./image.ts";
import { RESOURCE_COST, Resource } from "./resources.ts";
import type { Rect, Scanout } from "./scanouts.ts";
import { type GpuState, isTranslated } from "./state.ts";
import {
  Attach,
  Create2d,
  Entry,
  Flush,
  GpuFeature,
  PIXEL,
  RECT,
  ResourceOnly,
  Response,
  SetScanout,
  Transfer,
  UuidResponse,
} from "./wire.ts";

/** Pixels of a side at most. */
export const MAX_SIDE = 16384;

const {
  ERR_UNSPEC,
  ERR_OUT_OF_MEMORY,
  ERR_INVALID_SCANOUT_ID,
  ERR_INVALID_RESOURCE_ID,
  ERR_INVALID_PARAMETER,
} = Response;

/** Reasons of refusals, which are equal texts so that the log counts them. */
export const Reason = {
  RESOURCE: "there is no such resource",
  TAKEN: "the resource's id is 0 or in use",
  SCANOUT: "there is no such scanout",
  FORMAT: "there is no such pixel format",
  SIZE: `a side of the image is not from 1 to ${MAX_SIDE}`,
  MEMORY: "the guest has used up its share of the host's memory (--max-hostmem)",
  RECT: "the rectangle is not within the image",
  BACKED: "the resource has guest memory already",
  UNBACKED: "the resource has no guest memory",
  ENTRIES: `the entries are none, more than ${MAX_ENTRIES}, or not all there`,
  ABSENT: "an address is not in guest memory",
  BEYOND: "the pixels lie beyond the end of the resource's guest memory",
  SHORT: "the guest memory is shorter than the blob",
  BLOB: "a blob is not an image",
  FEATURE: "its feature is not negotiated",
  UNSEEN: "its form or its pixel format cannot be shown",
  READING: "the renderer does not give the pixels",
  IOMMU: "behind an IOMMU, guest memory cannot be lent to the renderer",
  LENT: "the renderer cannot use its guest memory",
} as const;

/** Tells whether a rectangle lies in an image. Sums of two u32 are exact. */
export function isWithin(rect: Rect, width: number, height: number): boolean {
  return rect.x + rect.width <= width && rect.y + rect.height <= height;
}

/** Tells whether a rectangle can be shown: it is not empty, and lies in the image. */
export function isPart(rect: Rect, width: number, height: number): boolean {
  return rect.width >= 1 && rect.height >= 1 && isWithin(rect, width, height);
}

/** Makes an image and takes its memory, or returns null when there is not enough. */
export function takeImage(state: GpuState, width: number, height: number, extra: number) {
  const cost = width * height * PIXEL + extra;
  if (!state.memory.take(cost)) return null;
  try {
    return new Image(width, height);
  } catch {
    state.memory.giveBack(cost);
    return null;
  }
}

/** The scanout's own copy of what it shows, or a new one; null when there is no memory for it. */
export function copyFor(state: GpuState, scanout: Scanout, width: number, height: number) {
  return state.scanouts.copyOf(scanout, width, height) ?? takeImage(state, width, height, 0);
}

/** Tells whether an image may have such sides. */
export function hasSides(width: number, height: number): boolean {
  return width >= 1 && height >= 1 && width <= MAX_SIDE && height <= MAX_SIDE;
}

/** Reads a command's rectangle. */
export function readRect(chain: Chain, rect: Rect): Rect {
  rect.x = chain.readU32(RECT);
  rect.y = chain.readU32(RECT + 4);
  rect.width = chain.readU32(RECT + 8);
  rect.height = chain.readU32(RECT + 12);
  return rect;
}

/**
 * What both commands that set a scanout have in common: refuses one that is not there, lets resource 0
 * switch it off, refuses a resource that is not there, and else answers what `show` does.
 */
export function setScanout(
  { resources, scanouts, responder }: GpuState,
  chain: Chain,
  index: number,
  id: number,
  show: (scanout: Scanout, resource: Resource) => number,
): number {
  const scanout = scanouts.get(index);
  if (scanout === undefined) return responder.refuse(chain, ERR_INVALID_SCANOUT_ID, Reason.SCANOUT);
  if (id === 0) {
    scanouts.disable(scanout);
    return responder.ok(chain);
  }
  const resource = resources.get(id);
  if (resource === undefined) {
    return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
  }
  return show(scanout, resource);
}

export class Commands {
  readonly #state: GpuState;
  /** The rectangle of the command at hand. */
  readonly #rect: Rect = { x: 0, y: 0, width: 0, height: 0 };

  constructor(state: GpuState) {
    this.#state = state;
  }

  create2d(chain: Chain): number {
    const { resources, responder } = this.#state;
    const id = chain.readU32(Create2d.resource);
    const order = orderOf(chain.readU32(Create2d.format));
    const width = chain.readU32(Create2d.width);
    const height = chain.readU32(Create2d.height);
    if (id === 0 || resources.has(id)) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.TAKEN);
    }
    if (order < 0) return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.FORMAT);
    if (!hasSides(width, height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.SIZE);
    }
    const image = takeImage(this.#state, width, height, RESOURCE_COST);
    if (image === null) return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    resources.add(new Resource(id, order, image, 0, image.bytes.length + RESOURCE_COST));
    return responder.ok(chain);
  }

  unref(chain: Chain): number {
    const { resources, responder } = this.#state;
    const resource = resources.get(chain.readU32(ResourceOnly.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    this.#state.remove(resource);
    return responder.ok(chain);
  }

  setScanout(chain: Chain): number {
    const index = chain.readU32(SetScanout.scanout);
    const id = chain.readU32(SetScanout.resource);
    return setScanout(this.#state, chain, index, id, (scanout, resource) =>
      this.#show(chain, scanout, resource),
    );
  }

  #show(chain: Chain, scanout: Scanout, resource: Resource): number {
    const { scanouts, responder } = this.#state;
    const rect = readRect(chain, this.#rect);
    const { image } = resource;
    if (image === null) return this.#showTexture(chain, scanout, resource, rect);
    if (!isPart(rect, image.width, image.height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.RECT);
    }
    scanouts.show(scanout, resource, image, rect, null);
    return responder.ok(chain);
  }

  #showTexture(chain: Chain, scanout: Scanout, resource: Resource, rect: Rect): number {
    const { scanouts, responder } = this.#state;
    const { texture } = resource;
    if (texture === null) return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.BLOB);
    const { width, height } = texture.shape;
    if (texture.order < 0) return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.UNSEEN);
    if (!isPart(rect, width, height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.RECT);
    }
    const image = copyFor(this.#state, scanout, width, height);
    if (image === null) return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    scanouts.show(scanout, resource, image, rect, null);
    return responder.ok(chain);
  }

  flush(chain: Chain): number {
    const { resources, scanouts, responder } = this.#state;
    const rect = readRect(chain, this.#rect);
    const resource = resources.get(chain.readU32(Flush.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    const size = resource.image ?? resource.texture?.shape;
    if (size !== undefined && !isWithin(rect, size.width, size.height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.RECT);
    }
    for (const scanout of scanouts.all) {
      if (scanout.resource !== resource) continue;
      if (scanout.blob !== null && !copyBlob(chain, scanout, rect)) {
        return responder.refuse(chain, ERR_UNSPEC, Reason.ABSENT);
      }
      if (resource.image === null && !copyTexture(scanout, rect)) {
        return responder.refuse(chain, ERR_UNSPEC, Reason.READING);
      }
      scanouts.damage(scanout, rect);
    }
    return responder.ok(chain);
  }

  transfer(chain: Chain): number {
    const { resources, responder } = this.#state;
    const rect = readRect(chain, this.#rect);
    const offset = chain.readU64(Transfer.offset);
    const resource = resources.get(chain.readU32(Transfer.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    const { image, backing } = resource;
    if (image === null) return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.BLOB);
    if (backing === null) return responder.refuse(chain, ERR_UNSPEC, Reason.UNBACKED);
    if (!isWithin(rect, image.width, image.height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.RECT);
    }
    if (rect.width === 0 || rect.height === 0) return responder.ok(chain);
    const length = (rect.height - 1) * image.stride + rect.width * PIXEL;
    if (!(offset + length <= backing.size)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.BEYOND);
    }
    if (!copyRows(chain, backing, offset, image.stride, image, rect, resource.order)) {
      return responder.refuse(chain, ERR_UNSPEC, Reason.ABSENT);
    }
    resource.texture?.writeFrom(image, rect);
    return responder.ok(chain);
  }

  attach(chain: Chain): number {
    const { resources, responder, memory } = this.#state;
    const resource = resources.get(chain.readU32(Attach.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    if (resource.backing !== null) return responder.refuse(chain, ERR_UNSPEC, Reason.BACKED);
    const result = this.takeBacking(chain, Attach.size, chain.readU32(Attach.count));
    if (!(result instanceof Backing)) return result;
    if (result.size < resource.blobSize) {
      memory.giveBack(result.cost);
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.SHORT);
    }
    return this.#lend(chain, resource, result);
  }

  /** Gives a resource its guest memory, also for the renderer if it has to do with it. */
  #lend(chain: Chain, resource: Resource, backing: Backing): number {
    const { resources, responder, features } = this.#state;
    const { texture } = resource;
    resources.attach(resource, backing);
    if (texture === null) return responder.ok(chain);
    const translated = isTranslated(features);
    if (!translated && texture.attach(backing, chain.space)) return responder.ok(chain);
    // What a 2D resource is made of is ours alone to read.
    if (resource.image !== null) return responder.ok(chain);
    resources.detach(resource);
    return responder.refuse(chain, ERR_UNSPEC, translated ? Reason.IOMMU : Reason.LENT);
  }

  /** Reads entries of guest memory. Returns the bytes written when that is refused. */
  takeBacking(chain: Chain, at: number, count: number): Backing | number {
    const { memory, responder } = this.#state;
    if (count === 0 || count > MAX_ENTRIES || at + count * Entry.size > chain.readableBytes) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.ENTRIES);
    }
    const backing = new Backing(chain, at, count);
    if (!backing.lies(chain.space)) return responder.refuse(chain, ERR_UNSPEC, Reason.ABSENT);
    if (!memory.take(backing.cost)) {
      return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    }
    return backing;
  }

  detach(chain: Chain): number {
    const { resources, responder } = this.#state;
    const resource = resources.get(chain.readU32(ResourceOnly.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    if (resource.backing === null) return responder.refuse(chain, ERR_UNSPEC, Reason.UNBACKED);
    resources.detach(resource);
    return responder.ok(chain);
  }

  assignUuid(chain: Chain): number {
    const { resources, responder, features } = this.#state;
    if (!has(features, GpuFeature.RESOURCE_UUID)) {
      return responder.refuse(chain, ERR_UNSPEC, Reason.FEATURE);
    }
    const resource = resources.get(chain.readU32(ResourceOnly.resource));
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    resource.uuid ??= randomUuid();
    return responder.data(chain, Response.OK_RESOURCE_UUID, resource.uuid, UuidResponse.size);
  }
}

/** A random UUID (RFC 9562, 5.4). */
function randomUuid(): Uint8Array {
  const uuid = crypto.getRandomValues(new Uint8Array(16));
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

/**
 * Copies a rectangle of guest memory, whose first pixel is at `offset` and whose rows are `stride`
 * bytes apart, to its place in an image. False when part of it is not memory.
 */
export function copyRows(
  chain: Chain,
  backing: Backing,
  offset: number,
  stride: number,
  image: Image,
  { x, y, width, height }: Rect,
  order: number,
): boolean {
  const { space } = chain;
  const { address, pixels } = image;
  const first = y * image.stride + x * PIXEL;
  // Whole rows are one piece, there and here.
  if (width === image.width && stride === image.stride) {
    if (!backing.copy(space, offset, height * stride, address + first)) return false;
    if (order !== Order.BGRA) reorder(pixels, y * width, (y + height) * width, order);
    return true;
  }
  for (let row = 0; row < height; row++) {
    const to = first + row * image.stride;
    if (!backing.copy(space, offset + row * stride, width * PIXEL, address + to)) return false;
    if (order !== Order.BGRA) reorder(pixels, to / PIXEL, to / PIXEL + width, order);
  }
  return true;
}

/** Copies a rectangle of what a scanout shows, or all of it when it has nothing yet, if it is a texture. */
function copyTexture(scanout: Scanout, rect: Rect): boolean {
  const { image, resource, stale } = scanout;
  const texture = resource!.texture;
  if (texture === null) return true;
  scanout.stale = false;
  if (stale) return texture.readAll(image!);
  return rect.width === 0 || rect.height === 0 || texture.readInto(image!, rect);
}

/** Copies what a scanout shows of a rectangle of its blob. False when that is not memory any more. */
export function copyBlob(chain: Chain, scanout: Scanout, rect: Rect): boolean {
  const image = scanout.image!;
  const { offset, stride, order } = scanout.blob!;
  const { backing } = scanout.resource!;
  if (backing === null) return false;
  const x = Math.min(rect.x, image.width);
  const y = Math.min(rect.y, image.height);
  const width = Math.min(rect.width, image.width - x);
  const height = Math.min(rect.height, image.height - y);
  if (width === 0 || height === 0) return true;
  const start = offset + y * stride + x * PIXEL;
  return copyRows(chain, backing, start, stride, image, { x, y, width, height }, order);
}
