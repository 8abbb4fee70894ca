/** 3D of one card: the renderer, its contexts, and what happens to them in the life of a guest. */
import type { Chain } from "../../../core/chain.ts";
import type { Host, Virtqueue } from "../../../core/device.ts";
import { has } from "../../../core/features.ts";
import { type GpuState, isTranslated } from "../state.ts";
import { Command, GpuFeature } from "../wire.ts";
import { ContextCommands } from "./context-commands.ts";
import { Fences } from "./fences.ts";
import type { Capset, Renderer } from "./renderer.ts";
import { ResourceCommands } from "./resource-commands.ts";

/** What the commands of 3D share. */
export interface ThreeDParts {
  readonly state: GpuState;
  readonly renderer: Renderer;
  readonly fences: Fences;
  /** Contexts that the driver has created. */
  readonly contexts: Set<number>;
}

export class ThreeD implements Disposable {
  readonly #parts: ThreeDParts;
  readonly #contexts: ContextCommands;
  readonly #resources: ResourceCommands;

  /** Takes `renderer`. */
  constructor(state: GpuState, renderer: Renderer, host: Pick<Host, "every">) {
    const fences = new Fences(renderer, host);
    this.#parts = { state, renderer, fences, contexts: new Set() };
    this.#contexts = new ContextCommands(this.#parts);
    this.#resources = new ResourceCommands(this.#parts);
  }

  get capsets(): readonly Capset[] {
    return this.#parts.renderer.capsets;
  }

  /** Carries out a command of 3D. Returns the bytes written, or null for one that is not known. */
  handle(type: number, chain: Chain): number | null {
    const { features } = this.#parts.state;
    if (!has(features, GpuFeature.VIRGL)) return null;
    switch (type) {
      case Command.SUBMIT_3D:
        return this.#contexts.submit(chain);
      case Command.TRANSFER_TO_HOST_3D:
        return this.#resources.transfer(chain, true);
      case Command.TRANSFER_FROM_HOST_3D:
        return this.#resources.transfer(chain, false);
      case Command.RESOURCE_CREATE_3D:
        return this.#resources.create(chain);
      case Command.CTX_CREATE:
        return this.#contexts.create(chain);
      case Command.CTX_DESTROY:
        return this.#contexts.destroy(chain);
      case Command.CTX_ATTACH_RESOURCE:
        return this.#contexts.enter(chain);
      case Command.CTX_DETACH_RESOURCE:
        return this.#contexts.leave(chain);
      case Command.GET_CAPSET_INFO:
        return this.#contexts.capsetInfo(chain);
      case Command.GET_CAPSET:
        return this.#contexts.capset(chain);
      default:
        return null;
    }
  }

  /** Ends a command whose response is written: now, or when its fence has passed. */
  end(chain: Chain, written: number): number {
    return this.#parts.fences.end(chain, written);
  }

  /** Ends a drain. */
  flush(): void {
    this.#parts.fences.look();
  }

  /** The control queue starts: guest memory is where `queue` finds it. */
  started(queue: Virtqueue): void {
    const { state } = this.#parts;
    // Behind an IOMMU addresses may lose their meaning at any time.
    if (isTranslated(state.features)) return;
    const { space } = queue.chain;
    for (const { texture, backing } of state.resources.all()) {
      if (texture !== null && backing !== null) texture.attach(backing, space);
    }
  }

  /** The control queue stops: guest memory may go away. */
  stopping(): void {
    this.#parts.fences.giveUp();
    for (const { texture } of this.#parts.state.resources.all()) texture?.detach();
  }

  /** Forgets everything of the driver, all but the resources. */
  clear(): void {
    this.#parts.fences.giveUp();
    this.#contexts.clear();
  }

  /** Ends the renderer. */
  [Symbol.dispose](): void {
    this.clear();
    this.#parts.renderer[Symbol.dispose]();
  }
}
