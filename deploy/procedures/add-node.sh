#!/bin/sh
# Starts a new node $1, with the unchanged cluster.peers and an address of its own in cluster.advertise.
. "$(dirname "$0")/common.sh"
node=$1

start "$node"
wait_until_ready "$node"
wait_for "$node votes" votes "${nodes%% *}" "$node"
majordomo_at "${nodes%% *}" member list
