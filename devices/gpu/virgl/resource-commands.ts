/** Commands of 3D resources (virtio 1.3, 5.7.6.8). */
import type { Chain } from "../../../core/chain.ts";
import { Box } from "../../../ffi/mod.ts";
import { copyRows, Reason } from "../commands.ts";
import { RESOURCE_COST, Resource } from "../resources.ts";
import { Create3d, Header, PIXEL, Response, Transfer3d as Wire } from "../wire.ts";
import type { Transfer3d } from "./renderer.ts";
import { costOf, readShape } from "./shape.ts";
import { Texture } from "./texture.ts";
import type { ThreeDParts } from "./three-d.ts";

const {
  ERR_UNSPEC,
  ERR_OUT_OF_MEMORY,
  ERR_INVALID_CONTEXT_ID,
  ERR_INVALID_RESOURCE_ID,
  ERR_INVALID_PARAMETER,
} = Response;

const Why = {
  SHAPE: "there is no resource of such a form and size",
  REFUSED: "the renderer does not take it",
  CONTEXT: "there is no such context",
  UNKNOWN: "the resource is in no context yet",
  BOX: "the box is empty or not within the resource",
} as const;

/** The transfer of the command at hand. */
interface Command extends Transfer3d {
  context: number;
}

export class ResourceCommands {
  readonly #parts: ThreeDParts;
  readonly #transfer: Command = {
    context: 0,
    level: 0,
    stride: 0,
    layerStride: 0,
    offset: 0,
    box: new Uint32Array(new ArrayBuffer(4 * Box.words)),
  };

  constructor(parts: ThreeDParts) {
    this.#parts = parts;
  }

  create(chain: Chain): number {
    const { renderer, state } = this.#parts;
    const { resources, responder, memory } = state;
    const id = chain.readU32(Create3d.resource);
    if (id === 0 || resources.has(id)) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.TAKEN);
    }
    const shape = readShape(chain);
    if (shape === null) return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.SHAPE);
    const cost = costOf(shape) + RESOURCE_COST;
    if (!memory.take(cost)) return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    const texture = Texture.create(renderer, id, shape);
    if (texture === null) {
      memory.giveBack(cost);
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.REFUSED);
    }
    const resource = new Resource(id, texture.order, null, 0, cost);
    resource.texture = texture;
    resources.add(resource);
    return responder.ok(chain);
  }

  /** TRANSFER_TO_HOST_3D, or TRANSFER_FROM_HOST_3D. */
  transfer(chain: Chain, toHost: boolean): number {
    const { renderer, state, contexts, fences } = this.#parts;
    const { responder } = state;
    const transfer = this.#read(chain);
    const resource = state.resources.get(chain.readU32(Wire.resource));
    if (transfer.context !== 0 && !contexts.has(transfer.context)) {
      return responder.refuse(chain, ERR_INVALID_CONTEXT_ID, Why.CONTEXT);
    }
    if (resource === undefined) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    const { texture, backing } = resource;
    if (texture === null) return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.UNKNOWN);
    if (backing === null || !texture.attached) {
      return responder.refuse(chain, ERR_UNSPEC, Reason.UNBACKED);
    }
    if (!texture.holds(transfer.box, transfer.level)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.BOX);
    }
    if (transfer.offset + texture.span(transfer) >= backing.size) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.BEYOND);
    }
    fences.work();
    const done = toHost
      ? renderer.write(resource.id, transfer, null)
      : renderer.read(resource.id, transfer, null);
    if (!done) return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.REFUSED);
    return toHost && resource.image !== null
      ? this.#copyToImage(chain, resource, transfer)
      : responder.ok(chain);
  }

  #read(chain: Chain): Command {
    const transfer = this.#transfer;
    const { box } = transfer;
    for (let i = 0; i < Box.words; i++) box[i] = chain.readU32(Wire.box + 4 * i);
    transfer.context = chain.readU32(Header.context);
    transfer.offset = chain.readU64(Wire.offset);
    transfer.level = chain.readU32(Wire.level);
    transfer.stride = chain.readU32(Wire.stride);
    transfer.layerStride = chain.readU32(Wire.layerStride);
    return transfer;
  }

  /** A 2D resource is shown from its image, which gets the same pixels. */
  #copyToImage(chain: Chain, resource: Resource, { box, stride, offset }: Command): number {
    const { responder } = this.#parts.state;
    const image = resource.image!;
    const backing = resource.backing!;
    const rect = {
      x: box[Box.x]!,
      y: box[Box.y]!,
      width: box[Box.width]!,
      height: box[Box.height]!,
    };
    const step = stride === 0 ? image.stride : stride;
    const length = (rect.height - 1) * step + rect.width * PIXEL;
    if (offset + length > backing.size) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.BEYOND);
    }
    return copyRows(chain, backing, offset, step, image, rect, resource.order)
      ? responder.ok(chain)
      : responder.refuse(chain, ERR_UNSPEC, Reason.ABSENT);
  }
}
