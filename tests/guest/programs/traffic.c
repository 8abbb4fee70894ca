/*
 * Verified random reads and writes of a disk by several processes at once, past the page cache.
 *
 *   traffic DEVICE BLOCKS PROCESSES STOP-FILE
 *
 * Each process owns every PROCESSES-th block of 4 KiB. It writes blocks with their number and how often
 * they were written, and reads blocks to see whether that is what they hold, until STOP-FILE exists;
 * then it reads all of its blocks. Prints "verified REQUESTS" and exits with 0 when all was right.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, WORDS = BLOCK / 8 };

static uint64_t word(uint64_t block, uint64_t generation, uint64_t i) {
  return generation == 0 ? 0 : ((block << 40) ^ (generation << 16) ^ i) * 0x9e3779b97f4a7c15u;
}

static void fail(const char *what, uint64_t block, uint64_t found) {
  printf("%s block %llu: %llx, %s\n", what, (unsigned long long)block, (unsigned long long)found,
         strerror(errno));
  fflush(stdout);
  _exit(1);
}

static void check(int fd, uint64_t *buffer, uint64_t block, uint32_t generation) {
  errno = 0;
  memset(buffer, 0xdd, BLOCK);
  ssize_t got = pread(fd, buffer, BLOCK, block * BLOCK);
  if (got != BLOCK) fail("cannot read", block, got);
  for (int i = 0; i < WORDS; i++)
    if (buffer[i] != word(block, generation, i)) fail("wrong data in", block, buffer[i]);
}

static void overwrite(int fd, uint64_t *buffer, uint64_t block, uint32_t generation) {
  errno = 0;
  for (int i = 0; i < WORDS; i++) buffer[i] = word(block, generation, i);
  ssize_t got = pwrite(fd, buffer, BLOCK, block * BLOCK);
  if (got != BLOCK) fail("cannot write", block, got);
}

static void work(int fd, uint64_t first, uint64_t step, uint64_t own, const char *stop,
                 volatile uint64_t *requests) {
  uint64_t *buffer = aligned_alloc(BLOCK, BLOCK);
  uint32_t *generations = calloc(own, sizeof *generations);
  uint64_t random = first * 2654435761u + 1;
  while (access(stop, F_OK) != 0) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t which = (random >> 33) % own;
    uint64_t block = first + which * step;
    if ((random >> 20) % 3 == 0) check(fd, buffer, block, generations[which]);
    else overwrite(fd, buffer, block, ++generations[which]);
    ++*requests;
  }
  for (uint64_t i = 0; i < own; i++) check(fd, buffer, first + i * step, generations[i]);
  *requests += own;
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  uint64_t blocks = strtoull(arguments[2], NULL, 10);
  int processes = atoi(arguments[3]);
  uint64_t *requests = mmap(NULL, processes * sizeof *requests, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int fd = open(arguments[1], O_RDWR | O_DIRECT);
  if (fd < 0 || requests == MAP_FAILED) return 2;
  for (int i = 0; i < processes; i++) {
    if (fork() != 0) continue;
    work(fd, i, processes, blocks / processes, arguments[4], &requests[i]);
    _exit(0);
  }
  int failed = 0, status;
  while (wait(&status) > 0) failed |= status;
  uint64_t total = 0;
  for (int i = 0; i < processes; i++) total += requests[i];
  printf("%s %llu\n", failed ? "failed after" : "verified", (unsigned long long)total);
  return failed ? 1 : 0;
}
