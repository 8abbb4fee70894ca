/** What the driver has created, by the ids that it chose (virtio 1.3, 5.7.6.8). */
import type { Backing } from "./backing.ts";
import type { HostMemory } from "./host-memory.ts";
import type { Image } from "./image.ts";
import type { Texture } from "./virgl/texture.ts";

/** What a resource takes besides its pixels, in bytes; about what its objects do. */
export const RESOURCE_COST = 1024;

/** A 2D resource, which has an image, a blob, which has a size, or a 3D one, which has a texture. */
export class Resource {
  readonly id: number;
  /** The `Order` of its pixels in guest memory; -1 for those of 3D that cannot be shown. */
  readonly order: number;
  /** Null for all but a 2D resource. */
  readonly image: Image | null;
  /** Bytes of a blob. */
  readonly blobSize: number;
  /** Bytes that it takes of the host's memory, its backing not included. */
  cost: number;
  /** The renderer's side of it: of all 3D resources, and of those of 2D that are in a context. */
  texture: Texture | null = null;
  backing: Backing | null = null;
  uuid: Uint8Array | null = null;

  constructor(id: number, order: number, image: Image | null, blobSize: number, cost: number) {
    this.id = id;
    this.order = order;
    this.image = image;
    this.blobSize = blobSize;
    this.cost = cost;
  }
}

export class Resources {
  readonly #byId = new Map<number, Resource>();
  readonly #memory: HostMemory;

  /** Gives what resources have taken back to `memory`; who adds them has taken it. */
  constructor(memory: HostMemory) {
    this.#memory = memory;
  }

  get count(): number {
    return this.#byId.size;
  }

  get(id: number): Resource | undefined {
    return this.#byId.get(id);
  }

  has(id: number): boolean {
    return this.#byId.has(id);
  }

  all(): Iterable<Resource> {
    return this.#byId.values();
  }

  add(resource: Resource): void {
    this.#byId.set(resource.id, resource);
  }

  attach(resource: Resource, backing: Backing): void {
    resource.backing = backing;
  }

  detach(resource: Resource): void {
    if (resource.backing === null) return;
    resource.texture?.detach();
    this.#memory.giveBack(resource.backing.cost);
    resource.backing = null;
  }

  /** Forgets a resource, which nothing shows any more. */
  remove(resource: Resource): void {
    this.detach(resource);
    this.#byId.delete(resource.id);
    this.#memory.giveBack(resource.cost);
    resource.texture?.[Symbol.dispose]();
    resource.image?.[Symbol.dispose]();
  }

  clear(): void {
    for (const resource of [...this.#byId.values()]) this.remove(resource);
  }
}
