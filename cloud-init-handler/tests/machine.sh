#!/bin/sh
# One boot's cloud-init run, as the units order it, in a copy of a Debian root that is thrown away.
# machine.sh ROOT PROGRAM FILES WORK: ROOT is a Debian root file system with cloud-init, FILES the handler's files/,
# WORK has what this boot finds: user-data.json (the hand-over), serial, cmdline, labels/, served/ (an HTTP seed).
# Results: WORK/out/. Runs in namespaces of its own: no network but a loopback, mounts vanish with it.
set -eu
if [ "${INSIDE:-}" = "" ]; then
    exec env INSIDE=1 unshare --mount --net --pid --fork --kill-child "$0" "$@"
fi
root=$1 program=$2 files=$3 work=$4
mount --make-rprivate /
mount -t tmpfs -o mode=0700 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
new=/mnt/root
mount -t proc proc "$new/proc"
mount -t tmpfs -o mode=0755 tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/sys"
mount -t tmpfs tmpfs "$new/dev"
mknod -m 666 "$new/dev/null" c 1 3
mknod -m 666 "$new/dev/urandom" c 1 9
mkdir -p "$new/sys/class/dmi/id" "$new/sys/class/net" "$new/dev/disk/by-label"
cp -r "$files/." "$new/"
install -D -m 0755 "$program" "$new/usr/lib/bootkeep/bootkeep-cloud-init"
mount --bind "$work/cmdline" "$new/proc/cmdline"
cp "$work/serial" "$new/sys/class/dmi/id/product_serial"
[ ! -d "$work/labels" ] || cp "$work/labels/"* "$new/dev/disk/by-label/"
if [ -f "$work/user-data.json" ]; then
    mkdir -m 0700 "$new/run/bootkeep"
    install -m 0600 "$work/user-data.json" "$new/run/bootkeep/user-data.json"
fi
[ ! -f "$work/before" ] || chroot "$new" /bin/sh -c "$(cat "$work/before")"
ip link set lo up
if [ -d "$work/served" ]; then
    cp -r "$work/served" "$new/run/served"
    chroot "$new" python3 -m http.server --bind 127.0.0.1 --directory /run/served 8099 >/dev/null 2>&1 &
    until chroot "$new" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8099))' 2>/dev/null; do sleep 0.1; done
fi
mkdir -p "$work/out"
step() {
    name=$1
    shift
    code=0
    chroot "$new" "$@" >"$work/out/$name.log" 2>&1 || code=$?
    echo "$code" >"$work/out/$name.code"
}
step seed /usr/lib/bootkeep/bootkeep-cloud-init seed
# The units require the seed step.
if [ "$(cat "$work/out/seed.code")" = 0 ]; then
    step local cloud-init init --local
    step init cloud-init init
fi
step check /usr/lib/bootkeep/bootkeep-cloud-init check
for left in etc/applied etc/hostile var/log/cloud-init.log; do
    [ ! -e "$new/$left" ] || cp "$new/$left" "$work/out/"
done
cp -r "$new/run/bootkeep" "$work/out/run" 2>/dev/null || true
# Where the plain text lies afterwards, beside the instance's own folder inside the encrypted root.
{ grep -rl sesame "$new/run" "$new/var/log" "$new/var/lib/cloud/instance/user-data.txt" "$new/var/lib/cloud/instance/obj.pkl" 2>/dev/null || true; } >"$work/out/leaks"
# Logins that the metadata's public keys gave.
{ grep -rl 'AAAA evil' "$new/home" "$new/root" 2>/dev/null || true; } >"$work/out/logins"
