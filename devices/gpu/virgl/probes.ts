/** Whether 3D works on this host. */
import { readdirSync } from "node:fs";
import type { Probe } from "../../../core/device.ts";
import { Log } from "../../../core/log.ts";
import { bindVirglrenderer } from "../../../ffi/mod.ts";

const FOLDER = "/dev/dri";

function renderNodes(): string[] {
  try {
    const names = readdirSync(FOLDER).filter((name) => name.startsWith("renderD"));
    return names.sort().map((name) => `${FOLDER}/${name}`);
  } catch {
    return [];
  }
}

/** The library is there. What it needs of others is loaded when it starts. */
function hasLibrary(): boolean {
  try {
    bindVirglrenderer();
    return true;
  } catch {
    return false;
  }
}

async function start(node: string | null): Promise<void> {
  const { Renderer } = await import("./renderer.ts");
  const { capsets } = new Renderer(node, new Log());
  if (capsets.length === 0) throw new Error("The renderer has no capsets");
}

/** By the options that they stand for. */
export const probes: Readonly<Record<string, Probe>> = {
  virgl: { likely: hasLibrary, attempt: () => start(null) },
  "render-node": {
    likely: () => renderNodes().length > 0 && hasLibrary(),
    attempt: () => {
      const [node] = renderNodes();
      if (node === undefined) throw new Error(`Cannot find a render node in ${FOLDER}`);
      return start(node);
    },
  },
};
