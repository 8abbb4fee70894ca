/** Bar charts as SVG: horizontal bars with the span from the lowest to the highest run. */

export interface Bar {
  readonly label: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Ours stand out. */
  readonly ours: boolean;
}

export interface BarGroup {
  readonly title: string;
  readonly bars: readonly Bar[];
}

const WIDTH = 760;
const LABELS = 250;
const VALUES = 80;
const ROW = 20;
const HEADER = 28;
const OURS = "#2a6f97";
const OTHERS = "#b8c4cc";

const escapeXml = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const text = (x: number, y: number, content: string, attributes = "") =>
  `<text x="${x}" y="${y}"${attributes}>${escapeXml(content)}</text>`;

function drawBar({ label, median, min, max, ours }: Bar, y: number, scale: number): string {
  const middle = y + ROW / 2;
  const [from, to] = [min, max].map((value) => (LABELS + value * scale).toFixed(1));
  return [
    text(LABELS - 8, middle + 4, label, ' text-anchor="end"'),
    `<rect x="${LABELS}" y="${y + 3}" width="${(median * scale).toFixed(1)}" height="${ROW - 6}" fill="${ours ? OURS : OTHERS}"/>`,
    `<path d="M${from} ${middle}H${to}M${from} ${middle - 4}v8M${to} ${middle - 4}v8" stroke="#222" fill="none"/>`,
    text(WIDTH - 8, middle + 4, median.toFixed(1), ' text-anchor="end"'),
  ].join("\n");
}

/** One chart; `unit` says what the numbers count. All groups share one scale. */
export function barChart(title: string, unit: string, groups: readonly BarGroup[]): string {
  const highest = Math.max(...groups.flatMap(({ bars }) => bars.map(({ max }) => max)));
  const scale = (WIDTH - LABELS - VALUES) / highest;
  const parts = [text(8, 18, `${title}, ${unit}`, ' font-weight="bold"')];
  let y = HEADER;
  for (const group of groups) {
    parts.push(text(8, y + 16, group.title, ' font-style="italic"'));
    y += HEADER;
    for (const bar of group.bars) {
      parts.push(`<g>${drawBar(bar, y, scale)}</g>`);
      y += ROW;
    }
  }
  const size = `width="${WIDTH}" height="${y + 8}" viewBox="0 0 ${WIDTH} ${y + 8}"`;
  const style = 'font-family="sans-serif" font-size="12"';
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${style}>\n<rect width="100%" height="100%" fill="#fff"/>\n${parts.join("\n")}\n</svg>\n`;
}
