/** Commands of contexts and capsets (virtio 1.3, 5.7.6.8). */
import type { Chain } from "../../../core/chain.ts";
import { has } from "../../../core/features.ts";
import { Reason } from "../commands.ts";
import type { Resource } from "../resources.ts";
import { isTranslated } from "../state.ts";
import {
  CAPSET_VIRGL2,
  CapsetInfoResponse,
  ContextResource,
  CreateContext,
  GetCapset,
  GetCapsetInfo,
  GpuFeature,
  Header,
  PIXEL,
  Response,
  Submit3d,
} from "../wire.ts";
import { imageShape } from "./shape.ts";
import { Texture } from "./texture.ts";
import type { ThreeDParts } from "./three-d.ts";

const {
  ERR_UNSPEC,
  ERR_OUT_OF_MEMORY,
  ERR_INVALID_CONTEXT_ID,
  ERR_INVALID_RESOURCE_ID,
  ERR_INVALID_PARAMETER,
} = Response;

/** What a context takes of the host's memory, in bytes: an OpenGL context does, and more with use. */
const CONTEXT_COST = 2 ** 20;

/** Bytes of one command stream at most; Mesa sends up to 256 KiB. */
const MAX_SUBMIT = 4 * 2 ** 20;

/** B8G8R8A8: what images have. */
const FORMAT_BGRA = 1;

const Why = {
  CONTEXT: "there is no such context",
  TAKEN: "the context's id is 0 or in use",
  CAPSET: "there is no such capset",
  REFUSED: "the renderer does not take it",
  LENGTH: `the commands are none, not whole words, more than ${MAX_SUBMIT} bytes, or not all there`,
  BLOB: "a blob of guest memory has no place in a context",
} as const;

export class ContextCommands {
  readonly #parts: ThreeDParts;
  /** A copy of the commands at hand, which the guest cannot change any more. */
  #commands: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(65536));

  constructor(parts: ThreeDParts) {
    this.#parts = parts;
  }

  capsetInfo(chain: Chain): number {
    const { renderer, state } = this.#parts;
    const capset = renderer.capsets[chain.readU32(GetCapsetInfo.index)];
    if (capset === undefined) {
      return state.responder.refuse(chain, ERR_INVALID_PARAMETER, Why.CAPSET);
    }
    const { id, version, size } = capset;
    const data = new Uint8Array(new Uint32Array([id, version, size]).buffer);
    return state.responder.data(chain, Response.OK_CAPSET_INFO, data, CapsetInfoResponse.size);
  }

  capset(chain: Chain): number {
    const { renderer, state } = this.#parts;
    const id = chain.readU32(GetCapset.id);
    const version = chain.readU32(GetCapset.version);
    const capset = renderer.capsets.find((each) => each.id === id);
    if (capset === undefined || version > capset.version) {
      return state.responder.refuse(chain, ERR_INVALID_PARAMETER, Why.CAPSET);
    }
    const data = renderer.readCapset(capset, version);
    return state.responder.data(chain, Response.OK_CAPSET, data, Header.size + data.length);
  }

  create(chain: Chain): number {
    const { renderer, state, contexts } = this.#parts;
    const { responder, memory } = state;
    const id = chain.readU32(Header.context);
    if (id === 0 || contexts.has(id)) {
      return responder.refuse(chain, ERR_INVALID_CONTEXT_ID, Why.TAKEN);
    }
    const named = has(state.features, GpuFeature.CONTEXT_INIT)
      ? chain.readU32(CreateContext.init)
      : 0;
    const capset = named === 0 ? CAPSET_VIRGL2 : named;
    if (!renderer.capsets.some((each) => each.id === capset)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.CAPSET);
    }
    if (!memory.take(CONTEXT_COST))
      return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    if (!renderer.createContext(id, capset, readName(chain))) {
      memory.giveBack(CONTEXT_COST);
      return responder.refuse(chain, ERR_UNSPEC, Why.REFUSED);
    }
    contexts.add(id);
    return responder.ok(chain);
  }

  destroy(chain: Chain): number {
    const { state, contexts } = this.#parts;
    const id = chain.readU32(Header.context);
    if (!contexts.has(id)) {
      return state.responder.refuse(chain, ERR_INVALID_CONTEXT_ID, Why.CONTEXT);
    }
    this.#remove(id);
    return state.responder.ok(chain);
  }

  enter(chain: Chain): number {
    return this.#withResource(chain, (context, resource) => {
      const { renderer, state } = this.#parts;
      if (resource.texture === null) {
        const refusal = this.#introduce(chain, resource);
        if (refusal !== null) return refusal;
      }
      renderer.enterContext(context, resource.id);
      return state.responder.ok(chain);
    });
  }

  leave(chain: Chain): number {
    return this.#withResource(chain, (context, resource) => {
      const { renderer, state } = this.#parts;
      if (resource.texture !== null) renderer.leaveContext(context, resource.id);
      return state.responder.ok(chain);
    });
  }

  submit(chain: Chain): number {
    const { renderer, state, contexts, fences } = this.#parts;
    const { responder } = state;
    const context = chain.readU32(Header.context);
    const length = chain.readU32(Submit3d.bytes);
    if (!contexts.has(context)) {
      return responder.refuse(chain, ERR_INVALID_CONTEXT_ID, Why.CONTEXT);
    }
    const there = chain.readableBytes - Submit3d.size;
    if (length === 0 || length % 4 !== 0 || length > MAX_SUBMIT || length > there) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.LENGTH);
    }
    if (this.#commands.length < length) {
      this.#commands = new Uint8Array(new ArrayBuffer(2 ** Math.ceil(Math.log2(length))));
    }
    chain.read(this.#commands.subarray(0, length), Submit3d.size);
    fences.work();
    if (!renderer.submit(context, this.#commands, length / 4)) {
      return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.REFUSED);
    }
    return responder.ok(chain);
  }

  clear(): void {
    for (const id of [...this.#parts.contexts]) this.#remove(id);
  }

  #remove(id: number): void {
    const { renderer, state, contexts } = this.#parts;
    contexts.delete(id);
    renderer.destroyContext(id);
    state.memory.giveBack(CONTEXT_COST);
  }

  #withResource(chain: Chain, act: (context: number, resource: Resource) => number): number {
    const { state, contexts } = this.#parts;
    const context = chain.readU32(Header.context);
    if (!contexts.has(context)) {
      return state.responder.refuse(chain, ERR_INVALID_CONTEXT_ID, Why.CONTEXT);
    }
    const resource = state.resources.get(chain.readU32(ContextResource.resource));
    if (resource === undefined) {
      return state.responder.refuse(chain, ERR_INVALID_RESOURCE_ID, Reason.RESOURCE);
    }
    return act(context, resource);
  }

  /** Makes a 2D resource known to the renderer. Returns the bytes written when that is refused. */
  #introduce(chain: Chain, resource: Resource): number | null {
    const { renderer, state, fences } = this.#parts;
    const { responder, memory } = state;
    const { image } = resource;
    if (image === null) return responder.refuse(chain, ERR_INVALID_PARAMETER, Why.BLOB);
    const cost = image.width * image.height * PIXEL;
    if (!memory.take(cost)) return responder.refuse(chain, ERR_OUT_OF_MEMORY, Reason.MEMORY);
    const shape = imageShape(FORMAT_BGRA, image.width, image.height);
    const texture = Texture.create(renderer, resource.id, shape);
    if (texture === null) {
      memory.giveBack(cost);
      return responder.refuse(chain, ERR_UNSPEC, Why.REFUSED);
    }
    resource.texture = texture;
    resource.cost += cost;
    fences.work();
    texture.writeFrom(image, { x: 0, y: 0, width: image.width, height: image.height });
    // Memory that goes away without a word cannot be the renderer's.
    if (resource.backing !== null && !isTranslated(state.features)) {
      texture.attach(resource.backing, chain.space);
    }
    return null;
  }
}

/** The name of a context, for the renderer's messages: what of it is plain text. */
function readName(chain: Chain): string {
  const length = Math.min(chain.readU32(CreateContext.nameLength), CreateContext.maxName - 1);
  const name = new Uint8Array(length);
  chain.read(name, CreateContext.name);
  return String.fromCharCode(...name.filter((byte) => byte > 31 && byte < 127));
}
