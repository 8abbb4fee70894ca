/** Runs in a Worker: fills pages, those first that somebody waits for. See page-server.ts. */
import { copyPages, Fd, PAGE_SIZE, readFault, wakeFaults } from "../../ffi/mod.ts";
import { PollSet } from "../../frontend/mod.ts";
import { PageCell } from "./page-cells.ts";

/** Addresses and lengths are in the order of the regions. */
export interface PageWork {
  readonly cells: Int32Array;
  /** Ends the Worker when it is readable. */
  readonly stop: number;
  /** Descriptors of the two userfaultfds. */
  readonly own: number;
  readonly remote: number;
  readonly sources: readonly number[];
  readonly ownAddresses: readonly number[];
  readonly remoteAddresses: readonly number[];
  readonly lengths: readonly number[];
}

interface Place {
  readonly region: number;
  readonly offset: number;
}

/** Pages that come unasked between two looks at the faults. */
const BATCH = 16;

class Pages {
  readonly #work: PageWork;
  readonly #own: Fd;
  readonly #remote: Fd;
  readonly #poll = new PollSet(3);
  #next: Place = { region: 0, offset: 0 };

  constructor(work: PageWork) {
    this.#work = work;
    this.#own = new Fd(work.own);
    this.#remote = new Fd(work.remote);
  }

  /** Serves until it is stopped. */
  run(): void {
    const { cells, stop } = this.#work;
    for (;;) {
      const push = Atomics.load(cells, PageCell.PUSH) === 1;
      const busy = push && Atomics.load(cells, PageCell.COMPLETE) === 0;
      this.#poll.clear();
      this.#poll.add(stop);
      this.#poll.add(this.#own.number);
      this.#poll.add(this.#remote.number);
      this.#poll.wait(busy ? 0 : 2);
      if (this.#poll.ready(0)) return;
      this.#serve(this.#own, this.#work.ownAddresses, PageCell.OWN_FAULTS);
      this.#serve(this.#remote, this.#work.remoteAddresses, PageCell.REMOTE_FAULTS);
      if (busy) this.#push();
    }
  }

  #serve(fd: Fd, addresses: readonly number[], counter: number): void {
    for (let fault = readFault(fd); fault !== null; fault = readFault(fd)) {
      Atomics.add(this.#work.cells, counter, 1);
      this.#place(this.#find(fault, addresses), fd, addresses);
    }
  }

  #find(address: number, addresses: readonly number[]): Place {
    for (let region = 0; region < addresses.length; region++) {
      const offset = address - addresses[region]!;
      if (offset >= 0 && offset < this.#work.lengths[region]!) {
        return { region, offset: offset - (offset % PAGE_SIZE) };
      }
    }
    throw new Error(`nothing is known about address 0x${address.toString(16)}`);
  }

  /** Fills a page through one of the descriptors, and wakes who waits for it in either process. */
  #place({ region, offset }: Place, fd: Fd, addresses: readonly number[]): void {
    const { cells, sources, ownAddresses, remoteAddresses } = this.#work;
    if (copyPages(fd, addresses[region]! + offset, sources[region]! + offset, PAGE_SIZE)) {
      Atomics.add(cells, PageCell.PLACED, 1);
    }
    wakeFaults(this.#own, ownAddresses[region]! + offset, PAGE_SIZE);
    wakeFaults(this.#remote, remoteAddresses[region]! + offset, PAGE_SIZE);
  }

  #push(): void {
    const { cells, lengths, ownAddresses } = this.#work;
    for (let i = 0; i < BATCH; i++) {
      const { region, offset } = this.#next;
      if (region === lengths.length) {
        return void Atomics.store(cells, PageCell.COMPLETE, 1);
      }
      this.#place(this.#next, this.#own, ownAddresses);
      const last = offset + PAGE_SIZE >= lengths[region]!;
      this.#next = last
        ? { region: region + 1, offset: 0 }
        : { region, offset: offset + PAGE_SIZE };
    }
  }
}

self.onmessage = (event: MessageEvent<PageWork>) => {
  new Pages(event.data).run();
  self.postMessage("ended");
  self.close();
};

self.postMessage("listening");
