/** Makes the tables of docs/protocol.md anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { renderPage } from "./protocol-page.ts";

const page = new URL("../docs/protocol.md", import.meta.url);
writeFileSync(page, renderPage(readFileSync(page, "utf8")));
