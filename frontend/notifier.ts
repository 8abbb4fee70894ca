/** The two ends of a notification: kick, call or err. */
import { acknowledge, createEventFd, type Fd, signal } from "../ffi/mod.ts";
import { READABLE, waitFor } from "./wait.ts";

/** An eventfd, or a pipe (vhost-user allows both). */
export class Notifier implements Disposable {
  /** What notifies; passed to the back-end for call and err. */
  readonly writer: Fd;
  /** What is notified; passed to the back-end for kick. */
  readonly reader: Fd;

  /** Takes both descriptors, which may be one. The reader must be non-blocking. */
  constructor(writer: Fd, reader: Fd) {
    this.writer = writer;
    this.reader = reader;
  }

  static eventFd(): Notifier {
    const fd = createEventFd();
    return new Notifier(fd, fd);
  }

  signal(): void {
    signal(this.writer.number);
  }

  /** Waits for a notification and takes it. False when there is none in time. */
  take(milliseconds = 0): boolean {
    if (!waitFor(this.reader.number, READABLE, milliseconds)) return false;
    return acknowledge(this.reader.number);
  }

  [Symbol.dispose](): void {
    this.writer.close();
    this.reader.close();
  }
}
