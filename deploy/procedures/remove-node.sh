#!/bin/sh
# Removes node NODE for ever: it ends by itself, and its data directory can not come back.
. "$(dirname "$0")/common.sh"
node=
arguments "remove-node.sh NODE" "Removes NODE for ever: it ends by itself, and its data directory can not come back." node "$@"
must_be_a_name "$node"
other=$(another "$node")
is_ready "$other" || refuse "$other is not ready: to remove a node takes a majority; nothing was done"
is_member "$other" "$node" || misuse "$node is no member of this cluster; \`majordomo member list\` shows them"

majordomo_at "$other" leader transfer "$other"
majordomo_at "$other" member remove "$node"
if is_reachable "$node"; then stop "$node"; else say "the machine of $node does not answer: it was not stopped"; fi
majordomo_at "$other" member list
