#!/usr/bin/env node
/** Runs benchmarks: `npm run bench -- [NAME...] [OPTION...]`. Plain Node, as the other scripts. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ensureInstalled, fail, root, runtimeNames, runtimePath } from "../scripts/setup.mjs";

/** `both`: measures the runtime it runs under, so it runs under each. */
const benches = {
  ring: { both: true, about: "walking a split ring, against a C loop with the same checks" },
  allocation: { both: true, about: "what the data plane allocates per request" },
  blk: { both: false, about: "the block program against qemu-storage-daemon and C" },
  gpu: { both: false, about: "processor time of a full screen of the graphics program" },
  endurance: { both: false, about: "memory over ten minutes of load" },
  guest: { both: false, about: "the block program under fio in QEMU and dd in User-Mode Linux" },
  net: { both: false, about: "the network program against DPDK's net_vhost" },
  "net-guest": { both: false, about: "TCP of a guest at a tap against QEMU's own virtio-net" },
  virgl: { both: true, about: "frames of kmscube in a guest whose card renders in software" },
  startup: { both: false, about: "start, memory, and end on SIGTERM" },
  results: { both: false, about: "no benchmark: puts what was recorded into bench/results.md" },
};

const usage = `Usage: npm run bench -- [NAME...] [OPTION...]

${Object.entries(benches)
  .map(([name, { about }]) => `  ${name.padEnd(12)}${about}`)
  .join("\n")}

All of them when no NAME is given. OPTIONs go to the benchmark:

  --quick               a short run that records nothing; otherwise bench/results/ gets the figures
  --lines=disk,ram      blk: which kinds of work (bench/lib/lines.ts); the others' figures stay
  --depths=1,32,128     blk: requests in flight
  --load=ARGUMENTS      blk: what vublk_bench does, in place of the line's own
  --runs=N --time=S     blk, guest, net, net-guest (--runs): runs of so many seconds each
  --runtimes=bun,deno   which of ours take part
  --with="NAME=COMMAND {socket} {file}"   blk: another back-end
  --no-peers            blk: without qemu-storage-daemon and the back-end in C
  --plain               net-guest: without offloads, so that all packets have the same size
  --own=DISPLAY         virgl: compare QEMU's own card on such a display, as sdl,gl=on
  --pin=CPU             blk: back-ends on one processor
`;

function command(runtime, file) {
  const flags = runtime === "deno" ? ["run", "-A", "--no-check", "--v8-flags=--expose-gc"] : [];
  return [runtimePath(runtime), ...flags, file];
}

function runBench(name, options) {
  for (const runtime of benches[name].both ? runtimeNames : runtimeNames.slice(0, 1)) {
    const [program, ...args] = command(runtime, join(root, "bench", `${name}.ts`));
    const run = spawnSync(program, [...args, ...options], { cwd: root, stdio: "inherit" });
    if (run.error) throw run.error;
    if (run.status !== 0) throw new Error(`bench/${name}.ts failed under ${runtime}`);
  }
}

const words = process.argv.slice(2);
const options = words.filter((word) => word.startsWith("--"));
const names = words.filter((word) => !word.startsWith("--"));
try {
  if (options.includes("--help")) process.stdout.write(usage);
  else {
    const unknown = names.find((name) => benches[name] === undefined);
    if (unknown !== undefined) throw new Error(`No benchmark is called "${unknown}":\n\n${usage}`);
    if (names.length !== 1 && options.some((word) => word !== "--quick")) {
      throw new Error("Options other than --quick belong to one benchmark: name it");
    }
    ensureInstalled();
    for (const name of names.length > 0 ? names : Object.keys(benches)) runBench(name, options);
  }
} catch (error) {
  fail(error);
}
