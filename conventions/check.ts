/** `ringside install --check`: what libvirt makes of the descriptors that are installed. */
import { readdirSync } from "node:fs";
import { type Discovery, discover, type FoundDescriptor } from "./discovery.ts";
import { askCapabilities } from "./probe.ts";
import { ExitStatus } from "./usage.ts";

/** The types whose programs libvirt starts. For others a domain names a socket. */
const startedTypes = ["fs", "gpu"];

/** What libvirt takes for each type, and why it passed others over. */
interface Choice {
  readonly chosen: ReadonlyMap<string, FoundDescriptor>;
  readonly passed: ReadonlyMap<FoundDescriptor, string>;
  readonly warnings: ReadonlyMap<FoundDescriptor, string>;
}

function renderNodes(): string[] {
  try {
    return readdirSync("/dev/dri").filter((name) => name.startsWith("renderD"));
  } catch {
    return [];
  }
}

/** A graphics card's program has to answer; of the others the first one is taken unseen. */
function choose({ found, chosen: first }: Discovery): Choice {
  const chosen = new Map(first);
  const passed = new Map<FoundDescriptor, string>();
  const warnings = new Map<FoundDescriptor, string>();
  if (!chosen.delete("gpu")) return { chosen, passed, warnings };
  for (const file of found.filter(({ type }) => type === "gpu")) {
    try {
      if (file.binary === null) throw new Error("it names no program");
      const { features } = askCapabilities(file.binary);
      chosen.set("gpu", file);
      if (features.includes("render-node") && renderNodes().length === 0) {
        const missing = "its program has render-node, and there is no render node in /dev/dri";
        warnings.set(file, `libvirt starts no domain with it: ${missing}`);
      }
      break;
    } catch (error) {
      passed.set(file, (error as Error).message);
    }
  }
  return { chosen, passed, warnings };
}

function verdict(file: FoundDescriptor, { chosen, passed }: Choice): string {
  if (file.error !== null) return `error: ${file.error}`;
  if (file.masks) return "empty: hides files of this name in earlier folders";
  const reason = passed.get(file);
  if (reason !== undefined) return `${file.type}: passed over: ${reason}`;
  const winner = chosen.get(file.type!);
  if (winner === file) return `${file.type}: chosen first`;
  return winner === undefined ? `${file.type}` : `${file.type}: after ${winner.name}`;
}

/** A line for each type that a descriptor has. */
function conclusions({ found }: Discovery, { chosen }: Choice): string[] {
  const types = [...new Set(found.flatMap(({ type }) => (type === null ? [] : [type])))].sort();
  return types.map((type) => {
    const winner = chosen.get(type);
    if (winner === undefined) return `${type}: libvirt finds none whose program answers`;
    if (!startedTypes.includes(type)) {
      return `${type}: libvirt starts no program of this type: give domains the socket of one`;
    }
    const why = type === "gpu" ? "the first by name whose program answers" : "first by name";
    return `${type}: libvirt starts ${winner.binary}: ${winner.name} is ${why}`;
  });
}

/**
 * Prints a line per descriptor, in libvirt's order, what is wrong, and what libvirt starts. Runs
 * the programs of graphics cards, as libvirt does. Returns an exit status: not 0 when libvirt would
 * find no back-end at all.
 */
export function checkDiscovery(folders: readonly string[]): number {
  console.log(`libvirt reads ${folders.join(", ")}`);
  const discovery = discover(folders);
  const { found, hidden } = discovery;
  const broken = found.filter(({ error }) => error !== null);
  const choice = choose(discovery);
  for (const file of found) {
    console.log(`${file.path}: ${verdict(file, choice)}`);
    const late = choice.warnings.get(file);
    for (const warning of late === undefined ? file.warnings : [...file.warnings, late]) {
      console.log(`  warning: ${warning}`);
    }
  }
  for (const { path, by } of hidden) console.log(`${path}: hidden by ${by.path}`);
  if (broken.length > 0) {
    console.error(
      `ringside: libvirt finds no vhost-user back-end at all because of ` +
        broken.map(({ path }) => path).join(", "),
    );
    return ExitStatus.FAILED;
  }
  for (const line of conclusions(discovery, choice)) console.log(line);
  console.log(found.length === 0 ? "No descriptor is installed" : "No errors");
  return ExitStatus.OK;
}
