#!/bin/sh
# Node $1 has lost its volume, or its machine: it comes back empty, under its name. Only when this has
# ended may another volume be given up.
. "$(dirname "$0")/common.sh"
node=$1

stop "$node"
on "$node" rm -rf "$(data_dir "$node")"
start "$node"
wait_until_ready "$node"
wait_for "the new $node votes alone" votes "$(another "$node")" "$node"
majordomo_at "$(another "$node")" member list
