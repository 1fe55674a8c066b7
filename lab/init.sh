#!/bin/sh
# The guest's first program. It stands on this machine's own files, and sees to it that the guest
# cannot change them by mistake: `/` becomes read-only but for the folders that `kept` has as rw.
session=$(dirname "$0")
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
mount -t tmpfs -o mode=755 run /run
mkdir -m 755 /run/lab /run/lab/keep
mkdir -m 700 /run/lab/home

# What stays writable, or in sight, is kept aside first: it may lie under what is about to be covered.
cp "$session/kept" /run/lab/kept
number=0
while read -r mode folder; do
    number=$((number + 1))
    mkdir "/run/lab/keep/$number"
    mount --bind "$folder" "/run/lab/keep/$number"
    [ "$mode" = rw ] || mount -o remount,bind,ro "/run/lab/keep/$number"
done </run/lab/kept
mount -o remount,bind,ro /
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=1777 tmp /var/tmp
number=0
while read -r _ folder; do
    number=$((number + 1))
    mkdir -p "$folder"
    mount --move "/run/lab/keep/$number" "$folder"
    # Never rm -r: should the move fail, this machine's own files are still below.
    rmdir "/run/lab/keep/$number"
done </run/lab/kept

for module in "$session"/modules/*.ko; do
    [ ! -e "$module" ] || busybox insmod "$module"
done
exec /usr/bin/python3 -I -S "$session/agent.py" "$session"
