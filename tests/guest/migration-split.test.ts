/** Live migration with split rings. */
import { runtime } from "./back-end.ts";
import { full } from "./lab.ts";
import { moves } from "./migration.ts";

// A quick run tries one kind of rings under each runtime.
if (full || runtime === "bun") moves({ packed: false, marks: true });
