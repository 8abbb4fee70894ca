/** How a back-end disappoints its front-end. */

export type Fault =
  /** It ended the connection. */
  | "closed"
  /** It did not answer, or did not notify, within the time limit. */
  | "silent"
  /** It acknowledged a message with an error. */
  | "refused"
  /** It broke a rule of the protocol or of the ring. */
  | "malformed";

/** What the back-end did wrong, or did not do. */
export class BackEndError extends Error {
  readonly fault: Fault;

  constructor(fault: Fault, message: string) {
    super(message);
    this.name = "BackEndError";
    this.fault = fault;
  }
}

/** Throws for what breaks a rule of the protocol or of the ring. */
export function malformed(message: string): never {
  throw new BackEndError("malformed", message);
}
