/** What the test runner prints. */

const tty = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code) => (text) => (tty ? `\x1b[${code}m${text}\x1b[0m` : text);
const red = paint(31);
const green = paint(32);
const yellow = paint(33);
const faint = paint(2);

/** Lines of a failed file's output that are shown. */
const OUTPUT_LINES = 150;

function indent(text) {
  return text.replace(/^/gm, "        ");
}

function lastLines(output) {
  const lines = output.trimEnd().split("\n");
  const left = lines.length - OUTPUT_LINES;
  return left > 0 ? [`... ${left} lines before`, ...lines.slice(left)] : lines;
}

function counts({ passed, failed, skipped }) {
  const parts = [`${passed} passed`];
  if (failed.length > 0) parts.push(red(`${failed.length} failed`));
  if (skipped.length > 0) parts.push(yellow(`${skipped.length} skipped`));
  return parts.join(", ");
}

/** Names what runs, on a terminal only; the next line replaces it. */
export function showRunning(titles) {
  if (!tty) return;
  const text = `... ${titles.join(", ")}`.slice(0, (process.stdout.columns ?? 80) - 1);
  process.stdout.write(`\r\x1b[K${faint(text)}`);
}

export function clearRunning() {
  if (tty) process.stdout.write("\r\x1b[K");
}

/** One line per finished file, and the output of one that failed. */
export function showResult(title, result) {
  clearRunning();
  const mark = result.failed.length > 0 ? red("FAILED") : green("ok    ");
  console.log(`${mark} ${title}  ${counts(result)}  ${faint(`${result.seconds.toFixed(1)} s`)}`);
  if (result.failed.length > 0) console.log(indent(lastLines(result.output).join("\n")));
}

/** The beginning of a message on one line. */
function inShort(why) {
  const text = why
    .split(/\s*\n\s*/)
    .slice(0, 4)
    .join(" ");
  return text.length > 160 ? `${text.slice(0, 160)}...` : text;
}

function list(heading, results, key) {
  const rows = results.flatMap(({ name: file, result }) =>
    result[key].map(({ name, why }) => `  ${file}: ${name}: ${inShort(why)}`),
  );
  if (rows.length > 0) console.log(`\n${heading}\n${rows.join("\n")}`);
}

/** Every skip with its reason, every failure by name, and the totals as the last line. */
export function showSummary(results) {
  list("Skipped:", results, "skipped");
  list("Failed:", results, "failed");
  const total = (count) => results.reduce((sum, { result }) => sum + count(result), 0);
  const failed = total((result) => result.failed.length);
  const skipped = total((result) => result.skipped.length);
  console.log(`\n${total((r) => r.passed)} passed, ${failed} failed, ${skipped} skipped`);
  return { failed, skipped };
}
