#!/bin/sh
# Ends an upgrade: what is new is used from now on, and older programs are refused.
. "$(dirname "$0")/common.sh"

majordomo_at "${nodes%% *}" upgrade finalize
majordomo_at "${nodes%% *}" upgrade status
