/** Memory hotplug with split rings. */
import { runtime } from "./back-end.ts";
import { hotplug } from "./hotplug.ts";
import { full } from "./lab.ts";

// A quick run tries one kind of rings under each runtime.
if (full || runtime === "bun") hotplug(false);
