/** `ringside install --check`: what libvirt makes of the descriptors that are installed. */
import { discover, type FoundDescriptor } from "./discovery.ts";
import { ExitStatus } from "./usage.ts";

function verdict(file: FoundDescriptor, chosen: ReadonlyMap<string, FoundDescriptor>): string {
  if (file.error !== null) return `error: ${file.error}`;
  if (file.masks) return "empty: hides files of this name in earlier folders";
  const winner = chosen.get(file.type!);
  if (winner === file) return `${file.type}: chosen first`;
  return winner === undefined ? `${file.type}` : `${file.type}: after ${winner.name}`;
}

/**
 * Prints a line per descriptor, in libvirt's order, and what is wrong. Returns an exit status:
 * not 0 when libvirt would find no back-end at all.
 */
export function checkDiscovery(folders: readonly string[]): number {
  console.log(`libvirt reads ${folders.join(", ")}`);
  const { found, chosen } = discover(folders);
  for (const file of found) {
    console.log(`${file.path}: ${verdict(file, chosen)}`);
    for (const warning of file.warnings) console.log(`  warning: ${warning}`);
  }
  const broken = found.filter(({ error }) => error !== null);
  if (broken.length === 0) {
    console.log(found.length === 0 ? "No descriptor is installed" : "No errors");
    return ExitStatus.OK;
  }
  console.error(
    `ringside: libvirt finds no vhost-user back-end at all because of ` +
      broken.map(({ path }) => path).join(", "),
  );
  return ExitStatus.FAILED;
}
