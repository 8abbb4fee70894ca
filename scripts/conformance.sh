#!/usr/bin/env bash
# Runs `ringside conform` on our own programs and on those of others that are here, and writes the
# table of docs/conformance.md. About fifteen minutes.
#
#     scripts/conformance.sh [NAME...]     which: blk net input gpu rng qsd-7.2 qsd-10.0 qemu-gpu dpdk; all by default
#
# Reports are kept in .cache/conformance, and those of programs that do not run this time are used again.
# qsd-7.2 is the qemu-storage-daemon and qemu-gpu the vhost-user-gpu of this system (VHOST_USER_GPU names
# another file), dpdk its dpdk-testpmd; qsd-10.0 is the lab's, see tests/guest/lab/setup.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=.cache/conformance
mkdir -p "$out"
truncate -s 16M "$out/disk.img"
disk=$PWD/$out/disk.img
export_options="--export type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={socket},writable=on,num-queues=4"
blockdev="--blockdev driver=file,node-name=disk,filename=$disk"
gpu=${VHOST_USER_GPU:-/usr/lib/qemu/vhost-user-gpu}
pmds=$(echo /usr/lib/*/dpdk/pmds-*)
dpdk_options="--no-huge -m 256 --no-pci --no-telemetry -l 0,1 -d $pmds/librte_net_vhost.so"
dpdk_options+=" -d $pmds/librte_mempool_ring.so --vdev=net_vhost0,iface={socket},queues=1"
dpdk_options+=" -- --stats-period=600 --auto-start --forward-mode=rxonly --total-num-mbufs=2048"

declare -A device=(
  [blk]=blk [net]=net [input]=input [gpu]=gpu [rng]=rng
  [qsd-7.2]=blk [qsd-10.0]=blk [qemu-gpu]=gpu [dpdk]=net
)
declare -A title=(
  [blk]=vhost-user-blk [net]=vhost-user-net [input]=vhost-user-input [gpu]=vhost-user-gpu
  [rng]=vhost-user-rng [qsd-7.2]="storage-daemon 7.2" [qsd-10.0]="storage-daemon 10.0"
  [qemu-gpu]="QEMU's vhost-user-gpu 7.2" [dpdk]="net_vhost 22.11"
)
declare -A command=(
  [blk]="$PWD/bin/vhost-user-blk --socket-path={socket} --blk-file=$disk --iommu --draft=standalone --draft=vhost-pci"
  [net]="$PWD/bin/vhost-user-net --socket-path={socket} --loopback"
  [input]="$PWD/bin/vhost-user-input --socket-path={socket} --kind=multitouch --listen=$PWD/$out/input"
  [gpu]="$PWD/bin/vhost-user-gpu --socket-path={socket}"
  [rng]="$PWD/bin/vhost-user-rng --socket-path={socket}"
  [qsd-7.2]="qemu-storage-daemon $blockdev $export_options"
  [qsd-10.0]="$PWD/.cache/lab/run qemu-storage-daemon $blockdev $export_options"
  [qemu-gpu]="$gpu --socket-path={socket}"
  [dpdk]="dpdk-testpmd $dpdk_options --no-lsc-interrupt"
)
order=(blk net input gpu rng qsd-7.2 qsd-10.0 qemu-gpu dpdk)
[ $# -gt 0 ] || set -- "${order[@]}"

for name; do
  echo "conformance: ${title[$name]}"
  status=0
  bin/ringside conform --device="${device[$name]}" --exec="${command[$name]}" --json \
    >"$out/$name.json.new" || status=$?
  # 1 also says that there was no back-end; then there is no report.
  if [ "$status" -le 1 ] && [ -s "$out/$name.json.new" ]; then
    mv "$out/$name.json.new" "$out/$name.json"
  else
    rm -f "$out/$name.json.new"
    echo "conformance: ${title[$name]} did not run" >&2
  fi
done

columns=()
for name in "${order[@]}"; do
  [ ! -s "$out/$name.json" ] || columns+=("${title[$name]}=$out/$name.json")
done
node scripts/conformance-table.mjs "${columns[@]}"
