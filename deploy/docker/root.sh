#!/bin/sh
# Collects what the image consists of: the program, every library that it needs, its configuration,
# and what the C library wants to find in /etc.
#
#   root.sh PROGRAM FOLDER     fills FOLDER/root, FOLDER/data and FOLDER/run, which must not be there yet
set -eu

program=$1
folder=$2
here=$(dirname "$0")
root=$folder/root

# Laid out as distributions do now, so that a runtime image which is one can be below it.
mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/majordomo" "$root/run" \
    "$folder/data" "$folder/run/majordomo"
ln -s usr/bin usr/lib usr/lib64 "$root"
# Function names stay for the backtrace of a panic; line tables are three quarters of the program.
strip --strip-debug -o "$root/bin/majordomo" "$program"
cp "$here/majordomo.toml" "$root/etc/majordomo/majordomo.toml"

# What the loader finds, and the loader itself, each under the path where it looks for it. The
# library of ZeroMQ is the system's, and brings libsodium for CURVE.
ldd "$program" > "$folder/closure"
if grep -q 'not found' "$folder/closure"; then
    cat "$folder/closure" >&2
    exit 1
fi
awk '/=> \//{print $3} $1 ~ /^\//{print $1}' "$folder/closure" | sort -u |
while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
grep -q 'libsodium' "$folder/closure" || {
    echo "root.sh: this libzmq has no libsodium, and so no CURVE" >&2
    exit 1
}

# Names are looked up in files and DNS, by code that the C library has in itself.
printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$root/etc/nsswitch.conf"
printf 'root:x:0:0::/:/none\nmajordomo:x:65532:65532::/:/none\n' > "$root/etc/passwd"
printf 'root:x:0:\nmajordomo:x:65532:\n' > "$root/etc/group"
chmod -R u=rwX,go=rX "$root"
# For Unix sockets: they get the group of this folder, which may connect and write nothing there.
chmod 2750 "$folder/run/majordomo"
