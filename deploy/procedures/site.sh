# shellcheck shell=sh disable=SC2034,SC2029 # the procedures read what is set here; commands are meant to be expanded here
# What the procedures need to know of a site: this one has a machine for each node, with the node's name,
# ssh, and systemd with a unit `majordomo`, of which `Restart=` is `on-failure`.

# The nodes of cluster.peers; node $1 is one of them, or one that was added.
nodes="node-1 node-2 node-3"

# Runs a command on the machine of node $1.
on() { machine=$1; shift; ssh "$machine" "$@"; }

# The program, on the machine of node $1, asking that node.
majordomo_at() { at=$1; shift; on "$at" majordomo "$@" --admin http://127.0.0.1:5580; }

# Where node $1 has its data, and its configuration.
data_dir() { echo /var/lib/majordomo; }
config_of() { echo /etc/majordomo/majordomo.toml; }

# Starts node $1. It ends by itself when it has drained.
start() { on "$1" systemctl start majordomo; }

# Stops node $1 at once, whatever it still does.
stop() { on "$1" systemctl kill --signal=KILL majordomo || true; on "$1" systemctl stop majordomo; }

# Makes version $2 the program of node $1 from its next start on.
install() { on "$1" ln -sfn "/opt/majordomo-$2/majordomo" /usr/local/bin/majordomo; }

# Whether version $2 is installed on the machine of node $1.
has_version() { on "$1" test -x "/opt/majordomo-$2/majordomo"; }
