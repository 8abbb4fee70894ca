/** The control queue: from a command's type to what carries it out (virtio 1.3, 5.7.6.7). */
import type { Chain } from "../../core/chain.ts";
import { BlobCommands } from "./blob-commands.ts";
import { Commands } from "./commands.ts";
import type { Queries } from "./queries.ts";
import type { GpuState } from "./state.ts";
import {
  Attach,
  Command,
  Create2d,
  CreateBlob,
  Flush,
  GetEdid,
  Header,
  ResourceOnly,
  Response,
  SetScanout,
  SetScanoutBlob,
  Transfer,
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
]);

export class ControlQueue {
  readonly #state: GpuState;
  readonly #queries: Queries;
  readonly #commands: Commands;
  readonly #blobs: BlobCommands;

  constructor(state: GpuState, queries: Queries) {
    this.#state = state;
    this.#queries = queries;
    this.#commands = new Commands(state);
    this.#blobs = new BlobCommands(state, this.#commands);
  }

  /** Serves one chain. Returns the bytes written or `PENDING`. */
  handle(chain: Chain): number {
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
      case Command.GET_CAPSET_INFO:
      case Command.GET_CAPSET:
        return responder.refuse(chain, Response.ERR_INVALID_PARAMETER, "there are no capsets");
      default:
        return responder.refuse(chain, Response.ERR_UNSPEC, "there is no such command");
    }
  }
}
