/** The page of `--web`: all of it in one answer, and nothing from elsewhere. */
import { createHash } from "node:crypto";
import { CURSOR_SIDE, PIXEL } from "../../wire.ts";
import { type PageSettings, pageFunctions } from "./page-script.ts";
import { WebHeader, WebMessage } from "./wire.ts";

const settings: PageSettings = {
  header: WebHeader,
  message: WebMessage,
  cursorSide: CURSOR_SIDE,
  pixel: PIXEL,
};

const functions = pageFunctions.map(String).join("\n");
const script = `"use strict";\n${functions}\n${pageFunctions[0]!.name}(${JSON.stringify(settings)});`;

const style = `
html, body { margin: 0; min-height: 100%; background: #22262b; color: #c8ced6; }
body { font: 14px/1.4 system-ui, sans-serif; display: flex; flex-direction: column; }
header { display: flex; padding: 6px 12px; background: #191c20; line-height: 24px; }
#state { flex: 1; }
#fit { font: inherit; color: inherit; background: #343a42; border: 0; padding: 0 12px; }
#state::before { content: "\\25cf"; margin-right: 8px; color: #d9534f; }
#state.live::before { color: #4caf50; }
#screens { display: flex; flex-wrap: wrap; gap: 12px; padding: 12px; justify-content: center; }
.screen { position: relative; overflow: hidden; line-height: 0; outline: none; touch-action: none; }
.screen:focus { box-shadow: 0 0 0 2px #5b9bd5; }
.screen canvas { max-width: 100%; background: #000; }
.screen canvas.cursor { position: absolute; background: none; pointer-events: none; }
.screen.pointed { cursor: none; }`;

/** What the browser is sent. */
export const pageText = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Ringside</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<header>
<div id="state" role="status">Connecting</div>
<button id="fit" hidden>Fit the window</button>
</header>
<main id="screens"></main>
<script>${script}</script>
</body>
</html>
`;

const hashOf = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** Nothing but what is on the page may run, and the page may not be part of another one. */
const policy = [
  "default-src 'none'",
  `script-src ${hashOf(script)}`,
  `style-src ${hashOf(style)}`,
  "img-src data:",
  "connect-src 'self'",
  "frame-ancestors 'none'",
  "form-action 'none'",
  "base-uri 'none'",
].join("; ");

export const pageHeaders: Readonly<Record<string, string>> = {
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy": policy,
  "Cache-Control": "no-store",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};
