#!/bin/sh
# Removes node $1 for ever: it ends by itself, and its data directory can not come back.
. "$(dirname "$0")/common.sh"
node=$1

majordomo_at "$(another "$node")" leader transfer "$(another "$node")"
majordomo_at "$(another "$node")" member remove "$node"
stop "$node"
majordomo_at "$(another "$node")" member list
