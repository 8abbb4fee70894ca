/*
 * Stands in for libvirglrenderer where it does not work: starting it fails, or does what TEST_RENDERER says.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int virgl_renderer_init(void *cookie, int flags, void *callbacks)
{
    (void)cookie;
    (void)flags;
    (void)callbacks;
    const char *what = getenv("TEST_RENDERER");
    if (what != NULL && strcmp(what, "abort") == 0)
        abort();
    if (what != NULL && strcmp(what, "hang") == 0)
        for (;;)
            pause();
    return -1;
}

#define NAME(name) \
    long name(void) \
    { \
        return 0; \
    }

NAME(virgl_renderer_cleanup)
NAME(virgl_set_debug_callback)
NAME(virgl_renderer_get_cap_set)
NAME(virgl_renderer_fill_caps)
NAME(virgl_renderer_context_create_with_flags)
NAME(virgl_renderer_context_destroy)
NAME(virgl_renderer_ctx_attach_resource)
NAME(virgl_renderer_ctx_detach_resource)
NAME(virgl_renderer_resource_create)
NAME(virgl_renderer_resource_unref)
NAME(virgl_renderer_resource_attach_iov)
NAME(virgl_renderer_resource_detach_iov)
NAME(virgl_renderer_submit_cmd)
NAME(virgl_renderer_transfer_read_iov)
NAME(virgl_renderer_transfer_write_iov)
NAME(virgl_renderer_create_fence)
NAME(virgl_renderer_poll)
