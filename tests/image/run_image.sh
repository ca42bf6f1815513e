#!/bin/sh
# Run a command of an image as its config says: as its user, its root read-only, /tmp and its volume its own. Called in
# namespaces of its own (unshare), which take mounts and processes with them when they end.
#
#     run_image.sh FILES SCRATCH USER:GROUP VOLUME WORKDIR COMMAND…
set -eu
files=$1 scratch=$2 user=$3 volume=$4 workdir=$5
shift 5
ip link set lo up 2>/dev/null || true
mount --bind "$files" "$files"
mount -o remount,bind,ro "$files"
mount -t proc proc "$files/proc"
mount -t tmpfs tmpfs "$files/tmp"
mount --bind /dev "$files/dev"
chown "$user" "$scratch"
mount --bind "$scratch" "$files$volume"
exec chroot --userspec="$user" "$files" sh -c 'cd "$0" && exec "$@"' "$workdir" "$@"
