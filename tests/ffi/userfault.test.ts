/** Memory whose pages come when they are touched. What is touched here and has not come would hang. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  awaitPages,
  copyPages,
  createMemfd,
  createUserfault,
  endAwaitingPages,
  type Fd,
  Mapping,
  PAGE_SIZE,
  readFault,
  wakeFaults,
} from "../../ffi/mod.ts";

const LENGTH = 16 * PAGE_SIZE;

/** A new mapping of an empty file, each page with content in a second one. */
function prepare() {
  const file = createMemfd("ringside-test", LENGTH);
  const mapping = new Mapping(file, LENGTH);
  const source = createMemfd("ringside-test", LENGTH);
  const pages = new Mapping(source, LENGTH);
  for (let i = 0; i < 16; i++) pages.windows[0]!.u8.fill(i + 1, i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
  const fd = createUserfault();
  return {
    fd,
    file,
    mapping,
    pages,
    [Symbol.dispose]() {
      for (const each of [file, source, fd]) each.close();
      for (const each of [mapping, pages]) each[Symbol.dispose]();
    },
  };
}

const at = (mapping: Mapping, page: number) => mapping.windows[0]!.u8[page * PAGE_SIZE]!;

describe("A userfaultfd", () => {
  it("fills pages once, also those that the file has by another way", () => {
    using memory = prepare();
    const { fd, mapping, pages } = memory;
    awaitPages(fd, mapping.address, mapping.length);
    const copy = (page: number, count = 1) => {
      const offset = page * PAGE_SIZE;
      const length = count * PAGE_SIZE;
      return copyPages(fd, mapping.address + offset, pages.address + offset, length);
    };
    assert.equal(copy(3), true);
    assert.equal(copy(3), false);
    assert.equal(at(mapping, 3), 4);
    using other = new Mapping(memory.file, LENGTH);
    other.windows[0]!.u8[5 * PAGE_SIZE] = 0x55;
    assert.equal(copy(5), false);
    assert.equal(at(mapping, 5), 0x55);
    assert.equal(copy(7, 4), true);
    assert.deepEqual(
      [7, 8, 9, 10].map((page) => at(mapping, page)),
      [8, 9, 10, 11],
    );
    wakeFaults(fd, mapping.address, mapping.length);
    assert.equal(readFault(fd), null);
  });

  it("leaves zeros where no page came", () => {
    using memory = prepare();
    const { fd, mapping, pages } = memory;
    awaitPages(fd, mapping.address, mapping.length);
    copyPages(fd, mapping.address, pages.address, PAGE_SIZE);
    endAwaitingPages(fd, mapping.address, mapping.length);
    assert.deepEqual([at(mapping, 0), at(mapping, 1)], [1, 0]);
  });

  it("has nothing to do with what is mapped at the same addresses later", () => {
    using memory = prepare();
    const { fd, mapping } = memory;
    awaitPages(fd, mapping.address, mapping.length);
    const { windows, address } = mapping;
    mapping[Symbol.dispose]();
    assert.equal(windows[0]!.u8[0], 0, "a view that is left shows zeros");
    using next = new Mapping(memory.file, LENGTH);
    assert.equal(next.address, address, "the range is used again");
    assert.equal(at(next, 2), 0);
    // Ending what is not there any more is no mistake.
    endAwaitingPages(fd, address, LENGTH);
    assert.equal(at(next, 3), 0);
  });

  it("refuses addresses where no page begins", () => {
    using fd: Fd = createUserfault();
    assert.throws(() => awaitPages(fd, 0x1001, PAGE_SIZE), /UFFDIO_REGISTER.*EINVAL/);
  });
});
