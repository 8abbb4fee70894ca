/*
 * The sizes of a network interface's rings, as `ethtool -g` and `ethtool -G` have them.
 *   ring-size INTERFACE          prints "RX TX"
 *   ring-size INTERFACE RX TX    sets them, for which the driver resets its queues
 */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(int count, char **words)
{
  struct ethtool_ringparam ring = {.cmd = ETHTOOL_GRINGPARAM};
  struct ifreq request = {.ifr_data = (void *)&ring};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (count != 2 && count != 4) return 2;
  strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, SIOCETHTOOL, &request) < 0) {
    perror("ETHTOOL_GRINGPARAM");
    return 1;
  }
  if (count == 2) {
    printf("%u %u\n", ring.rx_pending, ring.tx_pending);
    return 0;
  }
  ring.cmd = ETHTOOL_SRINGPARAM;
  ring.rx_pending = atoi(words[2]);
  ring.tx_pending = atoi(words[3]);
  if (ioctl(fd, SIOCETHTOOL, &request) == 0) return 0;
  perror("ETHTOOL_SRINGPARAM");
  return 1;
}
