/** The virtio graphics device, 2D (virtio 1.3, 5.7). */
import { type Static, Type } from "typebox";
import { type AnyDevice, type Device, defineDevice, type Host } from "../../core/device.ts";
import type { Fd } from "../../ffi/mod.ts";
import { parseSize } from "../size.ts";
import { MAX_SIDE } from "./commands.ts";
import { ControlQueue } from "./control-queue.ts";
import { CursorQueue } from "./cursor-queue.ts";
import { FrontEndDisplay } from "./displays/front-end.ts";
import { Screenshot } from "./displays/screenshot.ts";
import type { WebDisplay } from "./displays/web/display.ts";
import type { ViewerControls, ViewerInput } from "./displays/web/wire.ts";
import { Resizing } from "./events.ts";
import { Queries, type Size } from "./queries.ts";
import { GpuState } from "./state.ts";
import { probes } from "./virgl/probes.ts";
import type { ThreeD } from "./virgl/three-d.ts";
import { GpuConfig, GpuFeature, MAX_SCANOUTS } from "./wire.ts";

const CONTROL = 0;

/** What saves the screen. SIGUSR1 makes Deno listen for a debugger besides. */
const SIGNALS = ["SIGUSR1", "SIGUSR2"] as const;

export type { ViewerInput } from "./displays/web/wire.ts";

export const gpuOptions = Type.Object({
  maxOutputs: Type.Integer({
    default: MAX_SCANOUTS,
    minimum: 1,
    maximum: MAX_SCANOUTS,
    description: "Outputs a driver may use",
  }),
  size: Type.String({
    default: "1280x800",
    placeholder: "WxH",
    description: "Preferred size of the first output, where the front-end tells none",
  }),
  maxHostmem: Type.String({
    default: "256M",
    placeholder: "SIZE",
    description: "Memory of the host that the guest's images may take",
  }),
  blob: Type.Boolean({
    default: false,
    description: "Offer blob resources, to front-ends that know of them",
  }),
  virgl: Type.Boolean({
    default: false,
    description: "Offer 3D, which libvirglrenderer carries out: in software, or on a render node",
  }),
  renderNode: Type.Optional(
    Type.String({
      placeholder: "PATH",
      description: "With --virgl: the DRM device to render on, as /dev/dri/renderD128",
    }),
  ),
  screenshot: Type.Optional(
    Type.String({
      placeholder: "FILE.png",
      description:
        "Save the screen to this file on SIGUSR1 or SIGUSR2, and when the front-end is gone",
    }),
  ),
  web: Type.Optional(
    Type.String({
      placeholder: "[HOST:]PORT",
      description: "Show the screen in browsers, at an address that is told at the start",
    }),
  ),
});

export type GpuOptions = Static<typeof gpuOptions>;
type GpuHost = Host<typeof GpuConfig.schema>;

/** Reads `1280x800`. Throws RangeError for anything that is not a size of an image. */
function parseResolution(text: string): Size {
  const [, width = 0, height = 0] = (/^(\d+)x(\d+)$/.exec(text) ?? []).map(Number);
  const fits = (side: number) => side >= 1 && side <= MAX_SIDE;
  if (fits(width) && fits(height)) return { width, height };
  throw new RangeError(`Cannot use the size "${text}": write it as 1280x800, up to ${MAX_SIDE}`);
}

async function open(given: GpuOptions, host: GpuHost, input: ViewerInput | null) {
  const { maxOutputs, blob, screenshot, web } = given;
  if (given.renderNode !== undefined && !given.virgl) {
    throw new Error("Cannot use --render-node without --virgl");
  }
  const state = new GpuState(host.log, maxOutputs, parseSize(given.maxHostmem));
  const queries = new Queries(state, parseResolution(given.size));
  const camera = screenshot === undefined ? null : await Screenshot.prepare(screenshot, host.log);
  const threeD = given.virgl ? await openThreeD(state, given.renderNode ?? null, host) : null;
  const offer: (keyof typeof GpuFeature)[] = ["EDID", "RESOURCE_UUID"];
  if (blob) offer.push("RESOURCE_BLOB");
  if (threeD !== null) offer.push("VIRGL", "CONTEXT_INIT");
  const config = { numScanouts: maxOutputs, numCapsets: threeD?.capsets.length ?? 0 };
  const resizing = new Resizing(queries, host);
  const page = web === undefined ? null : await openPage(web, state, input, resizing, host);
  const parts = { state, queries, threeD, camera, page, resizing, host };
  return { config, offer, device: makeDevice(parts) };
}

async function openThreeD(state: GpuState, node: string | null, host: GpuHost): Promise<ThreeD> {
  const [{ Renderer }, { ThreeD }] = await Promise.all([
    import("./virgl/renderer.ts"),
    import("./virgl/three-d.ts"),
  ]);
  return new ThreeD(state, new Renderer(node, host.log), host);
}

async function openPage(
  address: string,
  { scanouts }: GpuState,
  input: ViewerInput | null,
  resizing: Resizing,
  host: GpuHost,
): Promise<WebDisplay> {
  const { WebDisplay } = await import("./displays/web/display.ts");
  const controls = input === null ? null : controlsOf(input, resizing);
  const page = await WebDisplay.open(address, scanouts, controls, host as unknown as Host);
  scanouts.displays.add(page);
  return page;
}

function controlsOf(input: ViewerInput, resizing: Resizing): ViewerControls {
  return {
    input,
    get resizable() {
      return resizing.possible;
    },
    resize: (output, width, height) => resizing.resize(output, { width, height }),
  };
}

/** What a card is made of. */
interface Parts {
  readonly state: GpuState;
  readonly queries: Queries;
  readonly threeD: ThreeD | null;
  readonly camera: Screenshot | null;
  readonly page: WebDisplay | null;
  readonly resizing: Resizing;
  readonly host: GpuHost;
}

function makeDevice({ state, queries, threeD, camera, page, resizing, host }: Parts): Device {
  const control = new ControlQueue(state, queries, threeD);
  const cursors = new CursorQueue(state, host.log);
  const save = (): void => camera?.save(state.scanouts);
  if (camera !== null) for (const signal of SIGNALS) process.on(signal, save);
  let display: FrontEndDisplay | null = null;
  const leave = (): void => {
    if (display === null) return;
    state.scanouts.displays.delete(display);
    queries.display = null;
    display[Symbol.dispose]();
    display = null;
    page?.controlsChanged();
  };
  const show = (socket: Fd): void => {
    leave();
    display = new FrontEndDisplay(socket, state.scanouts, host as unknown as Host, {
      closed: (closed) => {
        if (closed === display) leave();
      },
    });
    state.scanouts.displays.add(display);
    queries.display = display;
    page?.controlsChanged();
  };
  const forget = (): void => {
    threeD?.clear();
    state.clear();
  };
  return {
    handle: (chain, queue) =>
      queue.index === CONTROL ? control.handle(chain) : cursors.handle(chain),
    flush() {
      state.scanouts.flush();
      threeD?.flush();
    },
    negotiated(features) {
      state.features = features;
    },
    started(queue) {
      // A driver that goes on after a pause has its resources still; a new one knows of none.
      if (queue.index !== CONTROL) return;
      if (queue.fresh) forget();
      threeD?.started(queue);
    },
    stopping(queue) {
      if (queue.index !== CONTROL) return;
      queries.giveUp();
      threeD?.stopping();
    },
    writeConfig: (at, data) => resizing.write(at, data),
    displaySocket: show,
    reset: forget,
    disconnected() {
      save();
      leave();
      forget();
    },
    [Symbol.dispose]() {
      for (const signal of SIGNALS) process.off(signal, save);
      leave();
      forget();
      threeD?.[Symbol.dispose]();
      page?.[Symbol.dispose]();
    },
  };
}

/** Makes a graphics card. `input` takes what those do who look at `--web`. */
export function gpuDevice(input: ViewerInput | null = null): AnyDevice {
  return defineDevice({
    type: "gpu",
    id: 16,
    summary: "Graphics card: its screen is shown by the front-end, and in browsers",
    options: gpuOptions,
    capabilities: ["virgl", "render-node"],
    probes,
    features: GpuFeature,
    config: GpuConfig,
    queues: [{ name: "control" }, { name: "cursor" }],
    // The server of `--web` lives on JavaScript events.
    async: ({ web }) => web !== undefined,
    open: (options, host) => open(options, host, input),
  });
}

/** `vhost-user-gpu`: a graphics card whose screen the front-end shows, and browsers. */
export const gpu: AnyDevice = gpuDevice();

export default gpu;
