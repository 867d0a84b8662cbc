#!/bin/sh
# All volumes are lost: a new cluster out of file $1, which back-up.sh wrote of node $2.
. "$(dirname "$0")/common.sh"
file=$1 node=$2

for other in $nodes; do
    stop "$other"
    on "$other" rm -rf "$(data_dir "$other")"
done
on "$node" mkdir -p "$(data_dir "$node")"
on "$node" tar -C "$(data_dir "$node")" -xzf - < "$file"
exec "$(dirname "$0")/recover.sh" "$node"
