/*
 * Starts a program with a Unix socket as an open descriptor, as libvirt does:
 *
 *     pass-fd connect|listen|datagram PATH FDNUM PROGRAM [ARGUMENT...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(125);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: pass-fd connect|listen|datagram PATH FDNUM PROGRAM...\n");
        return 125;
    }
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strncpy(address.sun_path, argv[2], sizeof(address.sun_path) - 1);
    int type = strcmp(argv[1], "datagram") == 0 ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(AF_UNIX, type, 0);
    if (fd < 0)
        fail("socket");
    if (strcmp(argv[1], "connect") == 0) {
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
            fail("connect");
    } else {
        if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
            fail("bind");
        if (type == SOCK_STREAM && listen(fd, 4) < 0)
            fail("listen");
    }
    int wanted = atoi(argv[3]);
    if (fd != wanted) {
        if (dup2(fd, wanted) < 0)
            fail("dup2");
        close(fd);
    }
    execvp(argv[4], argv + 4);
    fail(argv[4]);
}
