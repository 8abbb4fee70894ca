/** `--web=[HOST:]PORT`, and who may come to it. */
import { isIP } from "node:net";

/** Where the page is served. */
export interface WebAddress {
  /** A name or an address, IPv6 without brackets. */
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
}

const LOOPBACK = "127.0.0.1";
const MAX_PORT = 65535;

/** Reads `8080`, `localhost:8080` or `[::1]:8080`. Throws RangeError for anything else. */
export function parseWebAddress(text: string): WebAddress {
  const match = /^(?:(?:\[([\da-f:.]+)\]|([^:[\]/@\s]+)):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3] ?? -1);
  if (match === null || port > MAX_PORT || (match[1] !== undefined && isIP(match[1]) !== 6)) {
    throw new RangeError(`Cannot use the address "${text}": write it as 8080 or localhost:8080`);
  }
  return { host: match[1] ?? match[2] ?? LOOPBACK, port };
}

/** A host as it stands in a URL. */
export function hostInUrl(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

/** The host of a Host header or an origin, without its port; null when it has none. */
function hostOf(authority: string | undefined): string | null {
  const [, bracketed, plain] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(authority ?? "") ?? [];
  return bracketed ?? plain?.toLowerCase() ?? null;
}

/**
 * Tells whether a request was made for us, going by its Host header. A page of somebody else's can have its
 * own name resolve to our address, but never an address, `localhost`, or the name we were given.
 * The port may be another one: that of a tunnel.
 */
export function isOurHost(header: string | undefined, given: string): boolean {
  const host = hostOf(header);
  if (host === null) return false;
  return isIP(host) !== 0 || host === "localhost" || host === given.toLowerCase();
}

/** Tells whether a browser's request comes from our own page. Other programs send no Origin. */
export function isOurOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true;
  return /^https?:\/\/(.+)$/.exec(origin)?.[1] === host;
}
