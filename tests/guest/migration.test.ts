/** Live migration. A quick run tries one kind of rings under each runtime. */
import { runtime } from "./back-end.ts";
import { full } from "./lab.ts";
import { moves } from "./migration.ts";

if (full || runtime === "bun") moves({ packed: false, marks: true });
if (full || runtime === "deno") moves({ packed: true, marks: true });
