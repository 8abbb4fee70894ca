/**
 * A read-only disk behind a web server that knows range requests:
 *
 *     ringside ./http-disk.ts --url=http://images.example/debian.raw --socket-path=/run/vm/disk.sock
 */
import { Type } from "@ringside/vhost";
import { blkDevice, type Store, type Transfer } from "@ringside/vhost/devices/blk";

const EIO = 5;
const EROFS = 30;

/** A server that does not answer fails the request; the guest should not wait forever. */
const PATIENCE = 30_000;

function fetchRange(url: string, first: number, last: number): Promise<Response> {
  const headers = { range: `bytes=${first}-${last}` };
  return fetch(url, { headers, signal: AbortSignal.timeout(PATIENCE) });
}

/** The size that the server reports in `content-range: bytes 0-0/SIZE`. */
async function sizeOf(url: string): Promise<number> {
  const response = await fetchRange(url, 0, 0);
  await response.body?.cancel();
  const size = Number(response.headers.get("content-range")?.split("/")[1]);
  if (response.status === 206 && size > 0) return size;
  throw new Error(`Cannot open ${url}: no range of it can be had (status ${response.status})`);
}

class HttpStore implements Store {
  readonly readOnly = true;
  readonly async = true;
  readonly physicalBlockSize = 512;
  readonly size: number;
  readonly #url: string;

  constructor(url: string, size: number) {
    this.#url = url;
    this.size = size;
  }

  async read(transfer: Transfer, offset: number): Promise<number> {
    const response = await fetchRange(this.#url, offset, offset + transfer.length - 1);
    if (response.status !== 206) return -EIO;
    const data = new Uint8Array(await response.arrayBuffer());
    if (data.length !== transfer.length) return -EIO;
    transfer.copyIn(data);
    return 0;
  }

  write(): number {
    return -EROFS;
  }

  flush(): number {
    return 0;
  }

  [Symbol.dispose](): void {}
}

export default blkDevice({
  name: "http-disk",
  summary: "Read-only disk behind a web server",
  options: Type.Object({ url: Type.String({ description: "Where the image is" }) }),
  async: true,
  open: async ({ url }) => new HttpStore(url, await sizeOf(url)),
});
