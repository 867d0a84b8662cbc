#!/bin/sh
# All volumes are lost: a new cluster out of file FILE, which back-up.sh wrote of node NODE.
. "$(dirname "$0")/common.sh"
file='' node=''
arguments "restore.sh [--yes] FILE NODE" "All volumes are lost: makes a new cluster out of FILE, which back-up.sh wrote of NODE. What is left of the
nodes' data is deleted. While a majority answers it does nothing but with --yes." "file node" "$@"
must_be_of_site "$node"
[ -r "$file" ] || refuse "$file: there is no such file, or it can not be read; nothing was done"
list=$(tar -tzf "$file" 2> /dev/null) || refuse "$file is no archive of back-up.sh, or is damaged; nothing was done"
echo "$list" | grep -q '^\(\./\)\{0,1\}raft\.redb$' ||
    refuse "$file is no archive of a data directory: there is no raft.redb in it; nothing was done"
for other in $nodes; do
    is_reachable "$other" || refuse "the machine of $other does not answer; nothing was done"
done

say "this will be done:"
for other in $nodes; do
    if [ "$other" = "$node" ]; then
        echo "$other: killed, $(data_dir "$other") replaced by what is in $file ($(wc -c < "$file") bytes), then as recover.sh does it"
    else
        echo "$other: killed, $(data_dir "$other") deleted, started as a new member"
    fi
done
must_have_lost_its_majority

# The copy is unpacked beside the directory first: if that fails, nothing is lost.
directory=$(data_dir "$node") unpacked=$(data_dir "$node").restored
on "$node" rm -rf "$unpacked"
on "$node" mkdir -p "$unpacked"
on "$node" tar -C "$unpacked" -xzf - < "$file"
for other in $nodes; do
    stop "$other"
    on "$other" rm -rf "$(data_dir "$other")"
done
on "$node" mv "$unpacked" "$directory"
exec "$(dirname "$0")/recover.sh" --yes "$node"
