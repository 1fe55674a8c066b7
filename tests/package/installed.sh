# Installs a Debian package on a copy of this very system that is thrown away, and runs a command there.
# Arguments: the package, a folder that is mounted at /mnt, the command. Its mounts end with it.
# Exits with 77 where such a copy cannot be had.
set -eu
package=$(realpath "$1") shared=$(realpath "$2")
shift 2
copy=$(mktemp -d)
mount -t tmpfs -o size=3g none "$copy" || exit 77
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$copy/root" || exit 77
mount -t proc proc "$copy/root/proc"
mount --rbind /dev "$copy/root/dev"
mount -t tmpfs none "$copy/root/tmp"
mount --bind "$shared" "$copy/root/mnt"
cp "$package" "$copy/root/tmp/hvoinspect.deb"
chroot "$copy/root" sh -euc '
    printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    dpkg --install /tmp/hvoinspect.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2; exit 1; }
    cd / && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"' sh "$@"
