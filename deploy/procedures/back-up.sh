#!/bin/sh
# Writes a copy of the data directory of node NODE to file FILE. The node leaves for that time.
. "$(dirname "$0")/common.sh"
file='' node=''
arguments "back-up.sh FILE NODE" "Writes a copy of the data directory of NODE to the new file FILE. NODE leaves for that time, and comes back." "file node" "$@"
must_be_of_site "$node"
[ ! -e "$file" ] || refuse "$file is there already; nothing was done"
all_must_be_ready none
part=$file.part
: > "$part" || refuse "$part can not be written; nothing was done"

drain "$node"
# The node comes back whatever becomes of the copy.
if on "$node" tar -C "$(data_dir "$node")" -czf - . > "$part" && tar -tzf "$part" > /dev/null; then
    mv "$part" "$file"
    result=0
else
    rm -f "$part"
    result=1
fi
start "$node"
wait_until_ready "$node"
[ "$result" = 0 ] || { echo "back-up.sh: the data directory of $node could not be copied; $file was not written" >&2; exit 1; }
say "$file has $(wc -c < "$file") bytes"
