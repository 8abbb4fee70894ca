/** Memory hotplug. A quick run tries one kind of rings under each runtime. */
import { runtime } from "./back-end.ts";
import { hotplug } from "./hotplug.ts";
import { full } from "./lab.ts";

if (full || runtime === "bun") hotplug(false);
if (full || runtime === "deno") hotplug(true);
