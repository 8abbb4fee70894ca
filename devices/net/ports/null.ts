/** Nobody: frames are taken and forgotten. For measuring. */
import { allOffloads } from "../offloads.ts";
import { type Port, Sent } from "../port.ts";

export class NullPort implements Port {
  readonly offloads = allOffloads;
  readonly link = true;

  attach(): void {}

  send(): number {
    return Sent.DONE;
  }

  [Symbol.dispose](): void {}
}
