/**
 * The renderer that carries out OpenGL commands: one per process, because libvirglrenderer is. Ids are
 * those that the driver chose, checked by the caller.
 */
import { statSync } from "node:fs";
import type { Log } from "../../../core/log.ts";
import {
  Arena,
  type Block,
  bindVirglrenderer,
  bytes,
  cString,
  type Fd,
  O_CLOEXEC,
  O_RDWR,
  openFile,
  setNoNewPrivileges,
  VIRGL_USE_EGL,
  VIRGL_USE_SURFACELESS,
  type VirglCallbackTable,
  type Virglrenderer,
  writeVirglCallbacks,
} from "../../../ffi/mod.ts";
import { MAX_CAPSET } from "../response.ts";
import { CAPSET_VIRGL, CAPSET_VIRGL2 } from "../wire.ts";

/** A set of capabilities that the renderer describes itself with (virtio 1.3, 5.7.6.8). */
export interface Capset {
  readonly id: number;
  /** The latest version. */
  readonly version: number;
  /** In bytes. */
  readonly size: number;
}

/** What a transfer is about (virtio 1.3, 5.7.6.8: virtio_gpu_transfer_host_3d). */
export interface Transfer3d {
  readonly context: number;
  level: number;
  /** Bytes from row to row and from layer to layer; 0 for rows and layers without gaps. */
  stride: number;
  layerStride: number;
  /** Of the first byte in the memory. */
  offset: number;
  /** As `Box` of the ffi says. */
  readonly box: Uint32Array<ArrayBuffer>;
}

/** A piece of the host's memory for a transfer, in place of what the resource has; or null. */
export type TransferMemory = { readonly words: Uint32Array; readonly count: number } | null;

let inUse = false;

export class Renderer implements Disposable {
  readonly capsets: readonly Capset[];
  /** Memory for lists of iovecs, which the renderer keeps. */
  readonly arena: Arena = new Arena();
  /** The last fence that has passed. */
  passed = 0;
  readonly #library: Virglrenderer;
  readonly #table: VirglCallbackTable;
  readonly #memory: Block;
  #lastFence = 0;

  /**
   * Starts the renderer, on a render node or in software. The process cannot gain privileges from then on.
   * Throws `Error` with one sentence when it does not work here.
   */
  constructor(node: string | null, log: Log) {
    if (inUse) throw new Error("Cannot use --virgl twice: there is one renderer in a process");
    if (node !== null) openNode(node).close();
    this.#library = bindVirglrenderer();
    setNoNewPrivileges();
    this.#memory = this.arena.take(64);
    const callbacks = {
      writeFence: (fence: number) => {
        this.passed = fence;
      },
      getDrmFd: node === null ? null : () => descriptorOf(node),
      say: (format: string) => log.debug(`The renderer says: ${format}`),
    };
    const { address, words } = this.#memory;
    this.#table = writeVirglCallbacks(callbacks, address, words);
    this.#library.virgl_set_debug_callback(this.#table.debug.address);
    const flags = VIRGL_USE_EGL | (node === null ? VIRGL_USE_SURFACELESS : 0);
    const result = this.#library.virgl_renderer_init(address, flags, address);
    if (result !== 0) {
      const where = node === null ? "in software" : `on "${node}"`;
      throw new Error(`Cannot start the renderer ${where}: it needs EGL with OpenGL (${result})`);
    }
    inUse = true;
    this.capsets = [CAPSET_VIRGL, CAPSET_VIRGL2]
      .map((id) => this.#askCapset(id))
      .filter(({ size }) => size > 0 && size <= MAX_CAPSET);
  }

  #askCapset(id: number): Capset {
    const version = new Uint32Array(new ArrayBuffer(4));
    const size = new Uint32Array(new ArrayBuffer(4));
    this.#library.virgl_renderer_get_cap_set(id, version, size);
    return { id, version: version[0]!, size: size[0]! };
  }

  /** The bytes of a capset. */
  readCapset({ id, size }: Capset, version: number): Uint8Array<ArrayBuffer> {
    const data = bytes(size);
    this.#library.virgl_renderer_fill_caps(id, version, data);
    return data;
  }

  /** The functions below return false when the renderer refuses. */
  createContext(id: number, capset: number, name: string): boolean {
    const text = cString(name);
    const { virgl_renderer_context_create_with_flags: create } = this.#library;
    return create(id, capset, text.length - 1, text) === 0;
  }

  destroyContext(id: number): void {
    this.#library.virgl_renderer_context_destroy(id);
  }

  enterContext(context: number, resource: number): void {
    this.#library.virgl_renderer_ctx_attach_resource(context, resource);
  }

  leaveContext(context: number, resource: number): void {
    this.#library.virgl_renderer_ctx_detach_resource(context, resource);
  }

  /** `args`: as `ResourceArgs` of the ffi says. */
  createResource(args: Uint32Array<ArrayBuffer>): boolean {
    return this.#library.virgl_renderer_resource_create(args, 0, 0) === 0;
  }

  removeResource(id: number): void {
    this.#library.virgl_renderer_resource_unref(id);
  }

  /** Gives a resource memory, `count` iovecs that stay where they are until `detach`. */
  attach(id: number, iovecs: Block, count: number): boolean {
    return this.#library.virgl_renderer_resource_attach_iov(id, iovecs.address, count) === 0;
  }

  detach(id: number): void {
    this.#library.virgl_renderer_resource_detach_iov(id, null, null);
  }

  /** Carries out commands of a context. `words` counts 32-bit words of them. */
  submit(context: number, commands: Uint8Array<ArrayBuffer>, words: number): boolean {
    return this.#library.virgl_renderer_submit_cmd(commands, context, words) === 0;
  }

  /** Copies from a resource to memory. */
  read(id: number, transfer: Transfer3d, memory: TransferMemory): boolean {
    const { context, level, stride, layerStride, box, offset } = transfer;
    const { virgl_renderer_transfer_read_iov: copy } = this.#library;
    const words = memory?.words ?? null;
    const count = memory?.count ?? 0;
    return copy(id, context, level, stride, layerStride, box, offset, words, count) === 0;
  }

  /** Copies from memory to a resource. */
  write(id: number, transfer: Transfer3d, memory: TransferMemory): boolean {
    const { context, level, stride, layerStride, box, offset } = transfer;
    const { virgl_renderer_transfer_write_iov: copy } = this.#library;
    const words = memory?.words ?? null;
    const count = memory?.count ?? 0;
    return copy(id, context, level, stride, layerStride, box, offset, words, count) === 0;
  }

  /** Puts a fence behind all that was asked for. Returns its number, 0 when there can be none. */
  fence(): number {
    this.#lastFence = this.#lastFence === 0x7fffffff ? 1 : this.#lastFence + 1;
    const result = this.#library.virgl_renderer_create_fence(this.#lastFence, 0);
    return result === 0 ? this.#lastFence : 0;
  }

  /** Looks which fences have passed: `passed`. */
  poll(): void {
    this.#library.virgl_renderer_poll();
  }

  /** Ends it. Its resources and contexts are gone. */
  [Symbol.dispose](): void {
    if (!inUse) return;
    inUse = false;
    this.#library.virgl_renderer_cleanup(this.#table.address);
  }
}

/** Major number of DRM devices. Without one the renderer would work in software and say nothing. */
const DRM_MAJOR = 226;

function openNode(path: string): Fd {
  const fd = openFile(path, O_RDWR | O_CLOEXEC);
  const { rdev } = statSync(path);
  if (((rdev >> 8) & 0xfff) === DRM_MAJOR) return fd;
  fd.close();
  throw new Error(`Cannot render on "${path}": it is no DRM device`);
}

/** What C gets, and closes: the number of a descriptor, or -1. */
function descriptorOf(node: string): number {
  try {
    return openNode(node).number;
  } catch {
    return -1;
  }
}
