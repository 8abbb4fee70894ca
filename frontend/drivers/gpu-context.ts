/** A context of the graphics device, in which a driver draws with 3D commands (virtio 1.3, 5.7.6.8). */
import type { GpuAnswer, GpuDriver } from "./gpu.ts";
import {
  GPU_HEADER,
  GpuCommand,
  gpuCommand,
  gpuCommandOf,
  inContext,
  words64,
} from "./gpu-wire.ts";

/** A part of a 3D resource; what is absent begins at 0 and is 1 wide. */
export interface GpuBox {
  readonly x?: number;
  readonly y?: number;
  readonly z?: number;
  readonly width: number;
  readonly height?: number;
  readonly depth?: number;
}

/** What a 3D resource is, in the numbers of virgl_hw.h; what is absent is 1, or 0. */
export interface GpuShape {
  /** A texture of two dimensions by default. */
  readonly target?: number;
  readonly format: number;
  readonly bind: number;
  readonly width: number;
  readonly height?: number;
  readonly depth?: number;
  readonly arraySize?: number;
  readonly lastLevel?: number;
  readonly samples?: number;
  readonly flags?: number;
}

/** Where a transfer's bytes are in the resource's guest memory. All in bytes. */
export interface GpuLayout {
  readonly offset?: number;
  readonly level?: number;
  readonly stride?: number;
  readonly layerStride?: number;
}

const TEXTURE_2D = 2;
const CAPSET_INFO_SIZE = 40;

export class GpuContext {
  readonly id: number;
  readonly driver: GpuDriver;

  /** Nothing is sent yet. */
  constructor(driver: GpuDriver, id: number) {
    this.driver = driver;
    this.id = id;
  }

  /** All of these return the response's type. `init`: the capset, with CONTEXT_INIT. */
  create(init = 0, name = "test"): number {
    const command = new Uint8Array(96);
    const view = new DataView(command.buffer);
    view.setUint32(0, GpuCommand.CTX_CREATE, true);
    view.setUint32(24, name.length, true);
    view.setUint32(28, init, true);
    command.set(new TextEncoder().encode(name), 32);
    return this.#send(command);
  }

  destroy(): number {
    return this.#send(gpuCommand(GpuCommand.CTX_DESTROY));
  }

  attach(resource: number): number {
    return this.#send(gpuCommand(GpuCommand.CTX_ATTACH_RESOURCE, resource, 0));
  }

  detach(resource: number): number {
    return this.#send(gpuCommand(GpuCommand.CTX_DETACH_RESOURCE, resource, 0));
  }

  /** Carries out a stream of commands. */
  submit(words: readonly number[], fence: number | null = null): number {
    return this.#send(this.submission(words, fence));
  }

  /** The command that does. `claimed`: the length that it says it has, in bytes. */
  submission(
    words: readonly number[],
    fence: number | null = null,
    claimed: number = 4 * words.length,
  ): Uint8Array<ArrayBuffer> {
    const command = gpuCommandOf(GpuCommand.SUBMIT_3D, [claimed, 0, ...words]);
    return inContext(command, this.id, fence);
  }

  transferTo(resource: number, box: GpuBox, layout: GpuLayout = {}): number {
    return this.#transfer(GpuCommand.TRANSFER_TO_HOST_3D, resource, box, layout);
  }

  transferFrom(resource: number, box: GpuBox, layout: GpuLayout = {}): number {
    return this.#transfer(GpuCommand.TRANSFER_FROM_HOST_3D, resource, box, layout);
  }

  #transfer(type: number, resource: number, box: GpuBox, layout: GpuLayout): number {
    const { x = 0, y = 0, z = 0, width, height = 1, depth = 1 } = box;
    const { offset = 0, level = 0, stride = 0, layerStride = 0 } = layout;
    const place = [x, y, z, width, height, depth, ...words64(offset)];
    return this.#send(gpuCommand(type, ...place, resource, level, stride, layerStride));
  }

  #send(command: Uint8Array<ArrayBuffer>): number {
    return this.driver.command(inContext(command, this.id)).type;
  }
}

/** Creates a 3D resource. Returns the response's type. */
export function createResource3d(driver: GpuDriver, id: number, shape: GpuShape): number {
  const { target = TEXTURE_2D, format, bind, width, height = 1, depth = 1 } = shape;
  const { arraySize = 1, lastLevel = 0, samples = 0, flags = 0 } = shape;
  const sizes = [width, height, depth, arraySize, lastLevel, samples, flags, 0];
  return driver.send(GpuCommand.RESOURCE_CREATE_3D, id, target, format, bind, ...sizes);
}

export function capsetInfo(driver: GpuDriver, index: number): GpuAnswer {
  return driver.command(gpuCommand(GpuCommand.GET_CAPSET_INFO, index, 0), CAPSET_INFO_SIZE);
}

/** `size` in bytes, as GET_CAPSET_INFO has it. */
export function capset(driver: GpuDriver, id: number, version: number, size: number): GpuAnswer {
  return driver.command(gpuCommand(GpuCommand.GET_CAPSET, id, version), GPU_HEADER + size);
}
