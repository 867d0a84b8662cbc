#!/bin/sh
# Writes a copy of the data directory of node $2 to file $1. The node leaves for that time.
. "$(dirname "$0")/common.sh"
file=$1 node=$2

drain "$node"
on "$node" tar -C "$(data_dir "$node")" -czf - . > "$file"
start "$node"
wait_until_ready "$node"
say "$file has $(wc -c < "$file") bytes"
