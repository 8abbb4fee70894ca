/** What the demo prints: a progress line on a terminal, plain lines elsewhere, or one JSON object. */

const MIB = 2 ** 20;

const micro = (value) =>
  value < 1000 ? `${value.toFixed(0)} us` : `${(value / 1000).toFixed(1)} ms`;
const mebibytes = (bytes) => `${Math.round(bytes / MIB)} MiB`;
const thousands = (value) => Math.round(value).toLocaleString("en");

export class Display {
  #json;
  #tty;
  #open = false;
  #phase = "";

  constructor(json) {
    this.#json = json;
    this.#tty = Boolean(process.stdout.isTTY);
  }

  #print(text) {
    if (this.#json) return;
    if (this.#open) process.stdout.write("\r\x1b[K");
    this.#open = false;
    console.log(text);
  }

  /** Something that is not part of the result. */
  note(text) {
    if (this.#json) console.error(text);
    else this.#print(text);
  }

  serving({ runtime, size, startMs }) {
    const ms = startMs.toFixed(0);
    this.#print(
      `vhost-user-blk serves a sparse ${mebibytes(size)} image under ${runtime} (${ms} ms)`,
    );
  }

  progress({ phase, fraction }) {
    if (this.#json) return;
    if (!this.#tty) {
      if (phase !== this.#phase) this.#print(`${phase} ...`);
      this.#phase = phase;
      return;
    }
    const bar = "#".repeat(Math.round(fraction * 30)).padEnd(30, ".");
    process.stdout.write(`\r\x1b[K${phase.padEnd(15)} [${bar}] ${Math.round(fraction * 100)} %`);
    this.#open = true;
  }

  measured(result) {
    const { verify, random } = result;
    const rate = (bytes) => `${thousands(bytes / MIB)} MiB/s`;
    this.#print(`wrote and flushed ${mebibytes(verify.bytes)} at ${rate(verify.writeRate)}`);
    this.#print(`read it back at ${rate(verify.readRate)}: every block is what was written`);
    this.#print("");
    this.#print("4 KiB random reads    requests/s    median      99 %");
    for (const row of random) {
      const name = `queue depth ${row.depth}`.padEnd(18);
      const rate = thousands(row.iops).padStart(14);
      this.#print(`${name}${rate}${micro(row.p50).padStart(10)}${micro(row.p99).padStart(10)}`);
    }
    this.#print("");
    const [disk, memory] = [result.allocatedBytes, result.residentBytes].map(mebibytes);
    this.#print(`The image takes ${disk} on disk, the back-end ${memory} of memory.`);
  }

  guest({ step, seconds }) {
    this.#print(`guest: ${step} (${seconds.toFixed(1)} s)`);
  }

  end(result, qemu) {
    if (this.#json) {
      console.log(JSON.stringify(result));
      return;
    }
    const which = qemu.found === null ? "QEMU (not found here)" : `QEMU ${qemu.found}`;
    this.#print(`\nTo boot a system that is on disk.img, with ${which}:\n`);
    for (const line of qemu.lines) this.#print(`  ${line}`);
    if (result.guest === undefined) this.#print('\n"npm run demo -- --guest" boots a small Linux.');
  }
}
