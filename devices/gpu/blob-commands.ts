/** Commands of RESOURCE_BLOB: memory of the guest that is shown where it lies (virtio 1.3, 5.7.6.8). */
import type { Chain } from "../../core/chain.ts";
import { has } from "../../core/features.ts";
import { Backing } from "./backing.ts";
import {
  type Commands,
  copyBlob,
  copyFor,
  hasSides,
  isPart,
  Reason,
  readRect,
  setScanout,
} from "./commands.ts";
import { Order, orderOf } from "./formats.ts";
import { RESOURCE_COST, Resource } from "./resources.ts";
import type { BlobView, Scanout } from "./scanouts.ts";
import type { GpuState } from "./state.ts";
import {
  BLOB_FLAGS,
  BLOB_MEM_GUEST,
  CreateBlob,
  GpuFeature,
  PIXEL,
  Response,
  SetScanoutBlob,
} from "./wire.ts";

const { ERR_UNSPEC, ERR_OUT_OF_MEMORY, ERR_INVALID_RESOURCE_ID, ERR_INVALID_PARAMETER } = Response;

const KIND = "only blobs of guest memory, of 1 byte or more, are there";
const VIEW = "the image does not fit the blob";

export class BlobCommands {
  readonly #state: GpuState;
  readonly #commands: Commands;

  constructor(state: GpuState, commands: Commands) {
    this.#state = state;
    this.#commands = commands;
  }

  create(chain: Chain): number {
    const { resources, responder, memory, features } = this.#state;
    if (!has(features, GpuFeature.RESOURCE_BLOB)) {
      return responder.refuse(chain, ERR_UNSPEC, Reason.FEATURE);
    }
    const id = chain.readU32(CreateBlob.resource);
    const size = chain.readU64(CreateBlob.bytes);
    const flags = chain.readU32(CreateBlob.flags);
    if (id === 0 || resources.has(id)) {
      return responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.TAKEN);
    }
    const kind = chain.readU32(CreateBlob.memory);
    if (kind !== BLOB_MEM_GUEST || size === 0 || (flags & ~BLOB_FLAGS) !== 0) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, KIND);
    }
    const count = chain.readU32(CreateBlob.count);
    const backing = this.#commands.takeBacking(chain, CreateBlob.size, count);
    if (!(backing instanceof Backing)) return backing;
    if (size > backing.size || !memory.take(RESOURCE_COST)) {
      memory.giveBack(backing.cost);
      const short = size > backing.size;
      return short
        ? responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.SHORT)
        : responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    }
    const resource = new Resource(id, Order.BGRA, null, size, RESOURCE_COST);
    resources.add(resource);
    resources.attach(resource, backing);
    return responder.ok(chain);
  }

  setScanout(chain: Chain): number {
    const { responder, features } = this.#state;
    if (!has(features, GpuFeature.RESOURCE_BLOB)) {
      return responder.refuse(chain, ERR_UNSPEC, Reason.FEATURE);
    }
    const index = chain.readU32(SetScanoutBlob.scanout);
    const id = chain.readU32(SetScanoutBlob.resource);
    return setScanout(this.#state, chain, index, id, (scanout, resource) =>
      resource.image !== null || resource.texture !== null || resource.backing === null
        ? responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.UNBACKED)
        : this.#show(chain, scanout, resource),
    );
  }

  #show(chain: Chain, scanout: Scanout, resource: Resource): number {
    const { scanouts, responder } = this.#state;
    const width = chain.readU32(SetScanoutBlob.width);
    const height = chain.readU32(SetScanoutBlob.height);
    const part = readRect(chain, { x: 0, y: 0, width: 0, height: 0 });
    const view: BlobView = {
      order: orderOf(chain.readU32(SetScanoutBlob.format)),
      stride: chain.readU32(SetScanoutBlob.stride),
      offset: chain.readU32(SetScanoutBlob.offset),
    };
    if (view.order < 0) return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.FORMAT);
    if (!hasSides(width, height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.SIZE);
    }
    const end = view.offset + (height - 1) * view.stride + width * PIXEL;
    if (view.stride < width * PIXEL || end > resource.blobSize) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, VIEW);
    }
    if (!isPart(part, width, height)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Reason.RECT);
    }
    const image = copyFor(this.#state, scanout, width, height);
    if (image === null) return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    scanouts.show(scanout, resource, image, part, view);
    if (!copyBlob(chain, scanout, { x: 0, y: 0, width, height })) {
      scanouts.disable(scanout);
      return responder.refuse(chain, ERR_UNSPEC, Reason.ABSENT);
    }
    return responder.ok(chain);
  }
}
