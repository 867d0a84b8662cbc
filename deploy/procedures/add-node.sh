#!/bin/sh
# Starts a new node NODE, with the unchanged cluster.peers and an address of its own in cluster.advertise.
. "$(dirname "$0")/common.sh"
node=
arguments "add-node.sh NODE" "Starts the new node NODE, with the unchanged cluster.peers and an address of its own in cluster.advertise,
and waits until it votes." node "$@"
must_be_a_name "$node"
first=$(another "$node")
is_ready "$first" || refuse "$first is not ready: a new node needs a cluster with a leader; nothing was done"
if is_member "$first" "$node"; then
    refuse "$node is a member already; if its volume is lost, use replace-node.sh; nothing was done"
fi
is_reachable "$node" || refuse "the machine of $node does not answer; nothing was done"

start "$node"
wait_until_ready "$node"
wait_for "$node votes" votes "$first" "$node"
majordomo_at "$first" member list
