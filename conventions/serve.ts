/** Serves a device on its socket, or several on theirs, from opening to closing. */
import type { Static, TObject } from "typebox";
import {
  type Backend,
  type BackendContext,
  type OfferOptions,
  openBackends,
} from "../core/backend.ts";
import type { AnyDevice, DeviceDefinition } from "../core/device.ts";
import { Log } from "../core/log.ts";
import { Loop } from "../core/loop.ts";
import { DEFAULT_POLL_US, Polling } from "../core/polling.ts";
import { SystemError } from "../ffi/mod.ts";
import { bindSocket, inheritSocket } from "./socket.ts";
import { completeOptions } from "./values.ts";

/** Where the front-end comes from. */
export type Endpoint =
  | { readonly socketPath: string; readonly fd?: undefined }
  | { readonly fd: number; readonly socketPath?: undefined };

/** A device with complete options, and the sockets that it is served on. */
export interface Part {
  readonly device: AnyDevice;
  readonly options: unknown;
  readonly endpoints: readonly Endpoint[];
}

export interface RunContext extends OfferOptions {
  readonly log: Log;
  /** Ends everything. */
  readonly signal: AbortSignal;
  /** Called when front-ends can connect. */
  readonly ready?: ((backends: readonly Backend[]) => void) | undefined;
  /** Leaves the JavaScript event loop free for other things; each wake-up costs 50 us more. */
  readonly events?: boolean | undefined;
  /** Microseconds to look for requests before sleeping, while that pays. */
  readonly pollUs?: number | undefined;
}

/** Resolves when `signal` is aborted. */
function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener("abort", () => resolve(null), { once: true });
  });
}

/** Says what was being tried when a device's `open` let a bare system error through. */
function explainFailure(error: unknown): never {
  if (!(error instanceof SystemError)) throw error;
  throw new Error(`Cannot open the device: ${error.message}`, { cause: error });
}

/** Hands the socket over to the back-end. Returns what has to be undone at the end. */
function attach(backend: Backend, endpoint: Endpoint, loop: Loop, log: Log): () => void {
  if (endpoint.socketPath !== undefined) {
    const { fd, unlink } = bindSocket(endpoint.socketPath);
    backend.listen(fd);
    log.info(`Listening on ${endpoint.socketPath}`);
    return unlink;
  }
  const { fd, kind } = inheritSocket(endpoint.fd);
  if (kind === "listening") {
    backend.listen(fd);
    log.info(`Listening on descriptor ${endpoint.fd}`);
  } else backend.serve(fd, () => loop.stop());
  return () => {};
}

/** Ends back-ends, and is done when all of them are released. */
async function closeAll(backends: readonly Backend[]): Promise<void> {
  await Promise.all(backends.map((backend) => backend.close()));
}

/** Opens the devices one after another. Returns their back-ends in the order of their sockets. */
async function openParts(
  parts: readonly Part[],
  contextOf: (endpoint: Endpoint) => BackendContext,
): Promise<Backend[]> {
  const backends: Backend[] = [];
  try {
    for (const { device, options, endpoints } of parts) {
      backends.push(...(await openBackends(device, options, endpoints.map(contextOf))));
    }
    return backends;
  } catch (error) {
    closeAll(backends);
    return explainFailure(error);
  }
}

/**
 * Opens devices for their sockets and serves them in one loop until `signal` is aborted or a connected
 * socket is at its end. Throws when a device or a socket cannot be opened.
 */
export async function runParts(
  parts: readonly Part[],
  { log, signal, ready, events, pollUs = DEFAULT_POLL_US, ...offer }: RunContext,
): Promise<void> {
  using loop = new Loop();
  if (events) loop.useEvents();
  if (pollUs > 0) loop.pollWith(new Polling(pollUs / 1000));
  let failure: Error | null = null;
  let end = (): void => {};
  const failed = (reason: Error): void => {
    failure ??= reason;
    end();
  };
  const endpoints = parts.flatMap((part) => part.endpoints);
  const opening = openParts(parts, ({ socketPath }) => {
    const own = endpoints.length === 1 ? log : log.with({ socket: socketPath });
    return { ...offer, loop, log: own, failed };
  });
  const backends = await Promise.race([opening, aborted(signal)]);
  if (backends === null) {
    opening.then(closeAll, () => {});
    return;
  }
  const undo: (() => void)[] = [];
  try {
    for (const [i, endpoint] of endpoints.entries()) {
      undo.push(attach(backends[i]!, endpoint, loop, log));
    }
    end = () => void closeAll(backends).then(() => loop.stop());
    signal.addEventListener("abort", end, { once: true });
    if (failure !== null) throw failure;
    if (!signal.aborted) {
      ready?.(backends);
      await loop.run();
    }
    await closeAll(backends);
    if (failure !== null) throw failure;
  } catch (error) {
    // Not awaited: a loop that failed does not come back for what is in flight.
    closeAll(backends);
    throw error;
  } finally {
    for (const step of undo) step();
  }
}

/** What `serve` needs beside the device. */
export type ServeSettings<O extends TObject = TObject> = Endpoint &
  OfferOptions & {
    /** The device's options; those with a default may be left out. */
    readonly options?: Partial<Static<O>>;
    /** Ends the service: what is in flight is finished, the device closed, the socket removed. */
    readonly signal?: AbortSignal;
    /** Silent when absent. */
    readonly log?: Log;
    /** Called once front-ends can connect. */
    readonly ready?: () => void;
    /**
     * Serve from JavaScript events, so that timers, promises and servers of the same program run.
     * Otherwise the thread blocks between requests, which answers the front-end 50 us faster, and
     * other JavaScript gets its turn a few times per second. Devices declared `async` always do this.
     */
    readonly events?: boolean;
    /** Look for requests so many microseconds, while that pays, before sleeping: see `--poll-us`. */
    readonly pollUs?: number;
  };

/**
 * Serves a device on a socket. The promise is fulfilled when `signal` has ended it or, with the
 * `fd` of a connected socket, when the front-end is gone. Throws TypeError for wrong options, and
 * `Error` when the device or the socket cannot be opened.
 *
 * @example
 * await serve(device, { socketPath: "/run/vm/rng.sock", signal: AbortSignal.timeout(60_000) });
 */
export async function serve<O extends TObject>(
  device: DeviceDefinition<O, any, any>,
  settings: ServeSettings<O>,
): Promise<void> {
  const { socketPath, fd, options = {}, log = new Log(), signal, ready, ...rest } = settings;
  if ((socketPath === undefined) === (fd === undefined)) {
    throw new TypeError("Cannot serve a device: give either socketPath or fd");
  }
  const complete = await completeOptions(device.options, options as Record<string, unknown>);
  await runParts([{ device, options: complete, endpoints: [settings] }], {
    ...rest,
    log,
    signal: signal ?? new AbortController().signal,
    ready: () => ready?.(),
  });
}
