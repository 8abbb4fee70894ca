/** Objects and memory that a device shares (vhost-user: GET_SHARED_OBJECT, GET_SHMEM_CONFIG). */
import { ProtocolError } from "../errors.ts";
import { Uuid } from "../payloads.ts";
import type { Handler } from "./handler.ts";

const nothing = new Uint8Array(0);

export const sharingHandlers = {
  /** The reply has a descriptor or, for an object that is not shared, none. */
  GET_SHARED_OBJECT({ backend }, { payload }) {
    if (payload.length === 0) {
      backend.log.warn("Cannot find a shared object: GET_SHARED_OBJECT came without its UUID");
      return nothing;
    }
    if (payload.length !== Uuid.size) {
      throw new ProtocolError(`GET_SHARED_OBJECT has a UUID of ${payload.length} bytes`);
    }
    const fd = backend.frontEnd.sharedObject(payload);
    return fd === null ? nothing : { payload: nothing, fds: [fd] };
  },

  GET_SHMEM_CONFIG: ({ backend }) => backend.frontEnd.shmemConfig,
} satisfies Record<string, Handler>;
