/** The control queue: from a command's type to what carries it out (virtio 1.3, 5.7.6.7). */
import type { Chain } from "../../core/chain.ts";
import { BlobCommands } from "./blob-commands.ts";
import { Commands } from "./commands.ts";
import type { Queries } from "./queries.ts";
import type { GpuState } from "./state.ts";
import type { ThreeD } from "./virgl/three-d.ts";
import {
  Attach,
  Command,
  ContextResource,
  Create2d,
  Create3d,
  CreateBlob,
  CreateContext,
  Flush,
  GetCapset,
  GetCapsetInfo,
  GetEdid,
  Header,
  ResourceOnly,
  Response,
  SetScanout,
  SetScanoutBlob,
  Submit3d,
  Transfer,
  Transfer3d,
} from "./wire.ts";

/** Bytes that a command has at least; the header for one that is not known. */
const sizes: ReadonlyMap<number, number> = new Map([
  [Command.RESOURCE_CREATE_2D, Create2d.size],
  [Command.RESOURCE_UNREF, ResourceOnly.size],
  [Command.SET_SCANOUT, SetScanout.size],
  [Command.RESOURCE_FLUSH, Flush.size],
  [Command.TRANSFER_TO_HOST_2D, Transfer.size],
  [Command.RESOURCE_ATTACH_BACKING, Attach.size],
  [Command.RESOURCE_DETACH_BACKING, ResourceOnly.size],
  [Command.GET_EDID, GetEdid.size],
  [Command.RESOURCE_ASSIGN_UUID, ResourceOnly.size],
  [Command.RESOURCE_CREATE_BLOB, CreateBlob.size],
  [Command.SET_SCANOUT_BLOB, SetScanoutBlob.size],
  [Command.GET_CAPSET_INFO, GetCapsetInfo.size],
  [Command.GET_CAPSET, GetCapset.size],
  [Command.CTX_CREATE, CreateContext.size],
  [Command.CTX_ATTACH_RESOURCE, ContextResource.size],
  [Command.CTX_DETACH_RESOURCE, ContextResource.size],
  [Command.RESOURCE_CREATE_3D, Create3d.size],
  [Command.TRANSFER_TO_HOST_3D, Transfer3d.size],
  [Command.TRANSFER_FROM_HOST_3D, Transfer3d.size],
  [Command.SUBMIT_3D, Submit3d.size],
]);

export class ControlQueue {
  readonly #state: GpuState;
  readonly #queries: Queries;
  readonly #commands: Commands;
  readonly #blobs: BlobCommands;
  readonly #threeD: ThreeD | null;

  /** `threeD`: null for a card without. */
  constructor(state: GpuState, queries: Queries, threeD: ThreeD | null) {
    this.#state = state;
    this.#queries = queries;
    this.#commands = new Commands(state);
    this.#blobs = new BlobCommands(state, this.#commands);
    this.#threeD = threeD;
  }

  /** Serves one chain. Returns the bytes written or `PENDING`. */
  handle(chain: Chain): number {
    const written = this.#carryOut(chain);
    return this.#threeD?.end(chain, written) ?? written;
  }

  #carryOut(chain: Chain): number {
    const { responder } = this.#state;
    const length = chain.readableBytes;
    const type = length < Header.size ? 0 : chain.readU32(Header.type);
    if (length < (sizes.get(type) ?? Header.size)) {
      return responder.refuse(chain, Response.ERR_INVALID_PARAMETER, "it is too short");
    }
    const commands = this.#commands;
    switch (type) {
      case Command.TRANSFER_TO_HOST_2D:
        return commands.transfer(chain);
      case Command.RESOURCE_FLUSH:
        return commands.flush(chain);
      case Command.SET_SCANOUT:
        return commands.setScanout(chain);
      case Command.RESOURCE_CREATE_2D:
        return commands.create2d(chain);
      case Command.RESOURCE_UNREF:
        return commands.unref(chain);
      case Command.RESOURCE_ATTACH_BACKING:
        return commands.attach(chain);
      case Command.RESOURCE_DETACH_BACKING:
        return commands.detach(chain);
      case Command.RESOURCE_ASSIGN_UUID:
        return commands.assignUuid(chain);
      case Command.GET_DISPLAY_INFO:
        return this.#queries.displayInfo(chain);
      case Command.GET_EDID:
        return this.#queries.edid(chain);
      case Command.RESOURCE_CREATE_BLOB:
        return this.#blobs.create(chain);
      case Command.SET_SCANOUT_BLOB:
        return this.#blobs.setScanout(chain);
      default:
        return this.#threeD?.handle(type, chain) ?? this.#unknown(chain, type);
    }
  }

  #unknown(chain: Chain, type: number): number {
    const { responder } = this.#state;
    return type === Command.GET_CAPSET_INFO || type === Command.GET_CAPSET
      ? responder.refuse(chain, Response.ERR_INVALID_PARAMETER, "there are no capsets")
      : responder.refuse(chain, Response.ERR_UNSPEC, "there is no such command");
  }
}
