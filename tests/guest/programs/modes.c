/*
 * Shows one mode of the first monitor after the other.
 *   modes CARD COUNT FILE
 * Each has a new buffer, which is filled with the colours that its place and its number give. With the
 * last one the number and the size are written to FILE, and the program stays until it is killed.
 */
#include <drm_mode.h>
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 256 };

static int card;
static struct drm_mode_modeinfo modes[MOST];
static uint32_t mode_count, connector, crtc;

static void need(int ok, const char *what)
{
  if (ok) return;
  perror(what);
  exit(1);
}

static void control(unsigned long request, void *argument, const char *what)
{
  while (ioctl(card, request, argument) < 0) need(errno == EINTR || errno == EAGAIN, what);
}

/* Finds the first connector, its modes, and the first CRTC. */
static void look(void)
{
  uint32_t crtcs[MOST], connectors[MOST];
  struct drm_mode_card_res resources = {
    .crtc_id_ptr = (uintptr_t)crtcs, .count_crtcs = MOST,
    .connector_id_ptr = (uintptr_t)connectors, .count_connectors = MOST,
  };
  control(DRM_IOCTL_MODE_GETRESOURCES, &resources, "resources");
  need(resources.count_crtcs > 0 && resources.count_connectors > 0, "a monitor");
  crtc = crtcs[0];
  connector = connectors[0];
  /* Asked with room for no modes, the kernel looks at the monitor anew. */
  struct drm_mode_get_connector monitor = { .connector_id = connector };
  control(DRM_IOCTL_MODE_GETCONNECTOR, &monitor, "connector");
  need(monitor.count_modes > 0 && monitor.count_modes <= MOST, "modes");
  mode_count = monitor.count_modes;
  monitor = (struct drm_mode_get_connector){
    .connector_id = connector, .modes_ptr = (uintptr_t)modes, .count_modes = mode_count,
  };
  control(DRM_IOCTL_MODE_GETCONNECTOR, &monitor, "modes");
}

static void fill(uint32_t *pixels, uint32_t width, uint32_t height, uint32_t pitch, uint32_t seed)
{
  for (uint32_t y = 0; y < height; y++)
    for (uint32_t x = 0; x < width; x++)
      pixels[y * (pitch / 4) + x] = ((y * width + x + 1 + seed * 7919) * 0x9e3779b1u) & 0xffffff;
}

/* A buffer and what shows it. */
struct shown { uint32_t handle, framebuffer; };

static struct shown show(struct drm_mode_modeinfo *mode, uint32_t seed)
{
  struct drm_mode_create_dumb buffer = { .width = mode->hdisplay, .height = mode->vdisplay, .bpp = 32 };
  control(DRM_IOCTL_MODE_CREATE_DUMB, &buffer, "buffer");
  struct drm_mode_map_dumb place = { .handle = buffer.handle };
  control(DRM_IOCTL_MODE_MAP_DUMB, &place, "place of the buffer");
  void *pixels = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, place.offset);
  need(pixels != MAP_FAILED, "mmap");
  fill(pixels, buffer.width, buffer.height, buffer.pitch, seed);
  munmap(pixels, buffer.size);
  struct drm_mode_fb_cmd frame = {
    .width = buffer.width, .height = buffer.height, .pitch = buffer.pitch,
    .bpp = 32, .depth = 24, .handle = buffer.handle,
  };
  control(DRM_IOCTL_MODE_ADDFB, &frame, "framebuffer");
  struct drm_mode_crtc set = {
    .set_connectors_ptr = (uintptr_t)&connector, .count_connectors = 1,
    .crtc_id = crtc, .fb_id = frame.fb_id, .mode_valid = 1, .mode = *mode,
  };
  control(DRM_IOCTL_MODE_SETCRTC, &set, "mode");
  return (struct shown){ buffer.handle, frame.fb_id };
}

static void forget(struct shown before)
{
  struct drm_mode_destroy_dumb buffer = { .handle = before.handle };
  control(DRM_IOCTL_MODE_RMFB, &before.framebuffer, "end of a framebuffer");
  control(DRM_IOCTL_MODE_DESTROY_DUMB, &buffer, "end of a buffer");
}

int main(int argc, char **argv)
{
  if (argc != 4) return 2;
  int count = atoi(argv[2]);
  card = open(argv[1], O_RDWR | O_CLOEXEC);
  need(card >= 0, argv[1]);
  look();
  struct shown before = { 0, 0 };
  struct drm_mode_modeinfo *mode = modes;
  for (int i = 0; i < count; i++) {
    mode = &modes[i % mode_count];
    struct shown now = show(mode, i);
    if (before.handle != 0) forget(before);
    before = now;
  }
  FILE *file = fopen(argv[3], "w");
  need(file != NULL, argv[3]);
  fprintf(file, "%d %d %d %u\n", count - 1, mode->hdisplay, mode->vdisplay, mode_count);
  fclose(file);
  pause();
  return 0;
}
