/** Sizes as people write them, in options of devices. */

const units: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};

/** Reads `64M` as bytes. Throws RangeError for anything that is not a size. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt]?)i?b?$/i.exec(text);
  const size = match === null ? Number.NaN : Number(match[1]) * units[match[2]!.toLowerCase()]!;
  if (!Number.isSafeInteger(size) || size < 512) {
    throw new RangeError(`Cannot read "${text}" as a size: write it as 64M or 1G`);
  }
  return size;
}
