#!/bin/sh
# A system libvirt of its own: first process of new mount, process and network namespaces, in which
# all that libvirt and "ringside install" write lies in memory. The machine sees nothing of it, and
# everything ends with this process.
# usage: unshare -mnp --fork --kill-child libvirtd.sh FOLDER
# FOLDER/process gets this process's id as the machine sees it, for nsenter; FOLDER/sock has the sockets.
set -e
folder=$1

# The old /proc still counts as the machine does.
read -r process _ </proc/self/stat
mount -t proc proc /proc

mkdir -p "$folder/layers" "$folder/drivers" "$folder/sock"
mount -t tmpfs layers "$folder/layers"
for path in /etc /usr /var/lib /var/cache /var/log; do
  layer=$folder/layers$path
  mkdir -p "$layer/upper" "$layer/work"
  mount -t overlay overlay -o "lowerdir=$path,upperdir=$layer/upper,workdir=$layer/work" "$path"
done
mount -t tmpfs run /run

# Another QEMU's modules would end the one of the guest lab.
for path in /usr/lib/*/qemu; do
  [ ! -d "$path" ] || mount -t tmpfs modules "$path"
done
rm -rf /etc/qemu/vhost-user /usr/share/qemu/vhost-user
mkdir -p /etc/libvirt /etc/qemu/vhost-user /usr/share/qemu/vhost-user

# The one driver: others would look for programs and write firewall rules.
ln -s /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so "$folder/drivers/"
export LIBVIRT_DRIVER_DIR="$folder/drivers"

# libvirt-daemon-system would have made the user, whom libvirt looks for whatever it is told.
grep -q ^libvirt-qemu: /etc/passwd ||
  echo libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false >>/etc/passwd
grep -q ^libvirt-qemu: /etc/group || echo libvirt-qemu:x:64055: >>/etc/group
cat >/etc/libvirt/qemu.conf <<END
security_driver = "none"
namespaces = []
cgroup_controllers = []
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
END
cat >/etc/libvirt/libvirtd.conf <<END
unix_sock_dir = "$folder/sock"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:stderr"
END

echo "$process" >"$folder/process.new"
mv "$folder/process.new" "$folder/process"
libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$folder/libvirtd.pid" &
# Takes in what libvirt's children leave behind, too: they would count as alive.
wait $!
