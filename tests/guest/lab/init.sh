#!/bin/busybox sh
# First program of a test guest: loads the modules, then serves commands of the host on a serial
# line (tests/guest/channel.ts).
#   host -> guest   ID COMMAND LINE\n
#   guest -> host   @@ ID STATUS BYTES\n followed by BYTES of output (stdout and stderr)
# The line is the device that channel=... on the kernel command line names. "@@ ready 0 BYTES" with
# the uptime is sent once after each boot.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
for module in $(cat /modules/order); do
  insmod "/modules/$module" || echo "GUEST insmod $module failed"
done
channel=$(sed -n 's/.*channel=\([^ ]*\).*/\1/p' /proc/cmdline)
echo "GUEST up after $(cut -d' ' -f1 /proc/uptime) s, $(uname -r), channel $channel"

# $1 id, $2 status, $3 file with the output
answer() {
  printf '@@ %s %s %s\n' "$1" "$2" "$(stat -c %s "$3")"
  cat "$3"
}

serve() {
  stty raw -echo
  cut -d' ' -f1 /proc/uptime >/tmp/ready
  answer ready 0 /tmp/ready
  while read -r id line; do
    (eval "$line") >"/tmp/output.$id" 2>&1 </dev/null
    answer "$id" $? "/tmp/output.$id"
    rm -f "/tmp/output.$id"
  done
}

# The line ends only when the host goes away. The first process inherits what commands leave running; when
# that ends, ash begins its "read" again and loses half a line, so another shell does the reading.
while :; do
  (serve <"$channel" >"$channel")
  sleep 1
done
