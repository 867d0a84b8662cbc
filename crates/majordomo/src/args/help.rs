//! The long texts of `--help`.

/// The program in one line.
pub(super) const ABOUT: &str =
    "A broker for ZeroMQ's Majordomo protocol (7/MDP, 18/MDP, 8/MMI), with its tools";

/// The program.
pub(super) const LONG_ABOUT: &str = "\
A broker for ZeroMQ's Majordomo protocol: clients ask for a service by its name, workers offer \
services, the broker brings them together. It speaks 7/MDP (version 0.1), 18/MDP (version 0.2, \
partial replies) and 8/MMI (is a service there?).

Examples:
  majordomo serve                                 a broker on tcp://127.0.0.1:5555
  majordomo work echo --echo                      a worker for the service \"echo\"
  majordomo call echo hello                       prints \"hello\"
  majordomo services                              who offers what
  majordomo status                                which nodes there are, and who leads";

/// What each exit code means.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  all went well
  1  failure
  2  wrong usage or configuration, or an address is in use
  3  no reply (call, services, status, and changes of a cluster)
  4  the data directory cannot be used: damaged, of another node or cluster, or in use
  5  a newer version of the program is needed
  6  the node was removed from its cluster, or another process took over its name";

/// `serve`.
pub(super) const SERVE: &str = "\
Runs a broker until it is told to stop. Without any configuration it is a working broker for this \
machine, on tcp://127.0.0.1:5555. With cluster.peers it is one node of a cluster; config/three-node/ has \
the files of three.

What is configured counts in this order: flags, then environment variables \
(MAJORDOMO__BROKER__BIND=... sets broker.bind), then the file of --config, then the built-in values. \
config/majordomo.toml documents every key.

SIGTERM or SIGINT drains: workers are sent away, requests that they hold are finished, and the broker \
ends with exit code 0 after at most drain.timeout. A second signal ends it at once, with exit code 1. \
SIGHUP opens log files again and does nothing else; SIGUSR1, SIGUSR2 and SIGQUIT do nothing. The log goes \
to stderr; the line \"listening\" says that the broker can be used, and where. HTTP for probes, metrics \
and administration is on admin.bind, http://127.0.0.1:5580, and for this user alone on admin.socket.";

/// Examples of `serve`.
pub(super) const SERVE_AFTER: &str = "\
Examples:
  majordomo serve
  majordomo serve --config /etc/majordomo.toml
  majordomo serve --config /etc/majordomo.toml --check
  majordomo serve --bind 'tcp://*:5555' --log-format json
  majordomo serve --dev 3                         a cluster to try things out
  majordomo serve --bind 127.0.0.1:5655 --admin 127.0.0.1:5680    a second broker on this machine
  MAJORDOMO__BROKER__REQUEST_TTL=5s majordomo serve

Exit codes: 0 drained, 1 failure or second signal, 2 wrong usage or configuration or address in use,
4 data directory cannot be used, 5 newer version needed, 6 removed, or name taken over";

/// `call`.
pub(super) const CALL: &str = "\
Sends one request to a service and prints each frame of the reply, followed by a newline. --raw and \
--output leave the newlines out, for replies that are no text. With --protocol 0.2 the parts of a reply are \
printed as they come.

If no reply comes within --timeout, or the connection is lost, the request is sent again, to the next \
broker if there are several: a service may then work on it more than once, unless --not-idempotent forbids \
it. Nodes of the same cluster are learned by mmi.endpoints and serve when no broker of --endpoint does.

If no broker can be reached, that is said after a second (--wait), with the reason for each. If no reply \
comes, the broker is asked whether the service has a worker (mmi.service), and the message says it; with \
--fail-fast it is asked first.

With --key and --server-key connections are encrypted, and both sides show their keys (CURVE). A broker that \
does not admit the key, has another key, or has none is named with that reason.

With --json the reply is one object: {\"request_id\", \"service\", \"frames\": [..], \"encoding\": \"utf8\" \
or \"base64\", \"endpoint\", \"attempts\", \"elapsed_ms\"}. The request id is also in error messages; it stays \
on this side.";

/// Examples of `call`.
pub(super) const CALL_AFTER: &str = "\
Examples:
  majordomo call echo hello
  majordomo call mmi.service echo                 200 if there is a worker, 404 if not
  date | majordomo call archive -                 the body from stdin
  majordomo call echo a b --json                  a body of two frames
  majordomo call calc -5                          a body may begin with \"-\"
  majordomo call echo -- --help                   after \"--\" all is body
  majordomo call resize - --output small.png < big.png
  majordomo call echo hi --endpoint host-1:5555,host-2:5555 --timeout 1s --retries 5
  majordomo call billing 'charge 5' --not-idempotent
  majordomo call echo hi --key keys/me.key_secret --server-key keys/cluster.key

Exit codes: 0 replied, 1 failure, 2 wrong usage, 3 no reply";

/// `work`.
pub(super) const WORK: &str = "\
Registers as a worker for a service, and answers its requests by an echo or with a shell command.

The command gets the frames of the body, joined, on its stdin; what it writes to its stdout (at most \
16 MiB less 1 KiB) is the reply. If it fails, that is logged and the reply is one empty frame, followed by \
the last 4 KiB of its stderr with --reply-errors. A command that fails is not run again for the same request.

A lost broker is followed by another one of --endpoint, or of the nodes of its cluster, which are learned by \
mmi.endpoints. Workers choose among them at random, and some move when a node has started again, so that \
all nodes have some. Why a worker is not registered is logged at once, and each minute. A broker that refuses its \
key is tried again after 1 s, then after twice that, up to 30 s.

SIGTERM, SIGINT or SIGHUP (unless started by nohup) lets the worker finish the request that it has and \
leave; a second signal ends it and its command at once, as SIGKILL does. SIGUSR1, SIGUSR2 and SIGQUIT do \
nothing.";

/// Examples of `work`.
pub(super) const WORK_AFTER: &str = "\
Examples:
  majordomo work echo --echo
  majordomo work upper --exec 'tr a-z A-Z' --concurrency 4
  majordomo work echo --echo --key keys/me.key_secret --server-key keys/cluster.key
  majordomo work resize --exec 'convert - -resize 50% png:-' --exec-timeout 30s --reply-errors

Exit codes: 0 left when told to, 1 failure or second signal, 2 wrong usage";

/// `services`.
pub(super) const SERVICES: &str = "\
Lists the services that have workers, the nodes that offer them, and how many workers, idle workers and \
waiting requests each has on the node that answers. It asks the administration port of a node; with \
--endpoint it asks mmi.directory, an extension of 8/MMI that only majordomo answers.";

/// `status`.
pub(super) const STATUS: &str = "\
Shows the node that answers and, if it is in a cluster, its leader, term and members, with the epochs and \
versions of the nodes. Each node answers from what it knows itself. It asks the administration port of a \
node; with --endpoint it asks mmi.status, an extension of 8/MMI that only majordomo answers.";

/// Examples of `services`.
pub(super) const VIEW_AFTER: &str = "\
Examples:
  majordomo services
  majordomo services --admin http://127.0.0.1:5582
  majordomo services --endpoint host-1:5555 --json

Exit codes: 0 answered, 1 failure or not answered by majordomo, 2 wrong usage, 3 no reply";

/// Examples of `status`.
pub(super) const STATUS_AFTER: &str = "\
Examples:
  majordomo status --admin http://127.0.0.1:5582
  majordomo status --admin unix:/run/majordomo/admin.sock
  majordomo status --admin https://host-1:5580 --ca-file ca.crt --token-file token
  majordomo status --endpoint host-1:5555 --json
  majordomo status --live                         for a probe: 0 while the node lives
  majordomo status --ready                        for a script: 0 once the node is ready

Exit codes: 0 answered, live or ready; 1 failure, not answered by majordomo, not live or not ready; 2 wrong usage, 3 no reply";

/// `connections`.
pub(super) const CONNECTIONS: &str = "\
Lists the connections of clients and workers of one node, the oldest first: where each comes from, what it \
is, how many messages came and left, how many of its requests wait for a worker, and how many bytes wait to \
be sent to it. With --kick it closes one: a worker's request goes to another worker, as if it had died, and a \
client's waiting requests are dropped. IDs are of one run of one node, and never used again in it.";

/// Examples of `connections`.
pub(super) const CONNECTIONS_AFTER: &str = "\
Examples:
  majordomo connections
  majordomo connections --admin http://127.0.0.1:5582 --json
  majordomo connections --kick 3145728

Exit codes: 0 answered or closed, 1 failure or no such connection, 2 wrong usage, 3 no answer";

/// `member`.
pub(super) const MEMBER: &str = "\
Shows and changes who takes part in the cluster. Any node can be asked: it passes a change on to the \
leader. A node that is configured with the cluster's peers joins by itself, so that \"add\" and \"promote\" \
are seldom needed; \"remove\" is, before a node is taken away for ever.

A removed node stops, and its data directory can never take part again; with an empty one it can join anew.";

/// Examples of `member`.
pub(super) const MEMBER_AFTER: &str = "\
Examples:
  majordomo member list
  majordomo member add node-4 host-4:5556
  majordomo member promote node-4
  majordomo member remove node-2 --admin http://127.0.0.1:5581

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no reply";

/// `leader`.
pub(super) const LEADER: &str = "\
Moves the leadership of the cluster, for example away from a machine that is about to be restarted. Any \
node can be asked: it passes the change on to the leader.";

/// Examples of `leader`.
pub(super) const LEADER_AFTER: &str = "\
Examples:
  majordomo leader transfer                       to the node that knows most of the log
  majordomo leader transfer node-2

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no reply";

/// `top`.
pub(super) const TOP: &str = "\
Shows nodes and services again and again: rates, times, queues, workers, processor and memory. Name the \
administration ports of all nodes: each knows its own numbers only; of others it shows state and version. \
P50 and P99 are the bounds of the buckets in which half and 99 of 100 of the requests ended.

q, Esc or Ctrl-C ends it, space looks at once. When the output is no terminal it looks twice and ends, as \
with --once.";

/// Examples of `top`.
pub(super) const TOP_AFTER: &str = "\
Examples:
  majordomo top --admin http://10.0.0.1:5580,http://10.0.0.2:5580,http://10.0.0.3:5580
  majordomo top --json --interval 10s | jq .nodes

Exit codes: 0 ended, 1 failure, 2 wrong usage, 3 no reply";

/// `upgrade`.
pub(super) const UPGRADE: &str = "\
Shows and decides what becomes of the cluster's version: what every member speaks. It rises by itself when \
all members have run a newer version for upgrade.settle. Until then each node can go back to the version \
that it ran before; afterwards an older program is refused (exit code 5).";

/// Examples of `upgrade`.
pub(super) const UPGRADE_AFTER: &str = "\
Examples:
  majordomo upgrade status
  majordomo upgrade hold                          nodes can go back for as long as you like
  majordomo upgrade finalize                      do not wait for upgrade.settle
  majordomo upgrade status --json | jq -r .state  current, mixed, incomplete, held or settling

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no reply";

/// `drain`.
pub(super) const DRAIN: &str = "\
Lets a running node leave its cluster and end, as SIGTERM does: the leadership goes to another node, its \
workers are sent away after the reply that they owe, requests that wait there are handed to nodes that \
can serve them, and clients get the replies that they wait for. Its drain.timeout bounds all that.

A node is asked at its own administration port: the cluster does not know those of the others. With \
--wait the command ends when the node has left, its ports and its data directory are free, and its \
receipt is known; with --json that is {\"event\": \"drained\", \"finished\", \"handed_over\", \"dropped\", \
\"leader_moved\", \"took_ms\"}.";

/// Examples of `drain`.
pub(super) const DRAIN_AFTER: &str = "\
Examples:
  majordomo drain                                 the node of this machine; returns at once
  majordomo drain --wait --json
  majordomo drain node-2 --wait --admin http://127.0.0.1:5582

Exit codes: 0 accepted, or with --wait drained; 1 refused, failed, or not gone in time, 2 wrong usage,
3 no reply";

/// `snapshot`.
pub(super) const SNAPSHOT: &str = "\
Lets a running node make a snapshot of the catalog as applied there, drop the part of its log that the \
snapshot stands for, and saves the snapshot to a file.";

/// Examples of `snapshot`.
pub(super) const SNAPSHOT_AFTER: &str = "\
Examples:
  majordomo snapshot
  majordomo snapshot --output catalog.snapshot --admin http://127.0.0.1:5581

Exit codes: 0 saved, 1 failure, 2 wrong usage, 3 no reply";

/// `recover`.
pub(super) const RECOVER: &str = "\
For the day on which a majority of the nodes is lost for ever: makes a new cluster, with a new id, out of \
the data directory of one stopped node. That node alone is its only member; the others join it with empty \
data directories.

It is a person's decision, for a node of the old cluster that was only cut off would go on in that one: \
make sure that the others are stopped. What the lost nodes knew and this one did not is gone; workers \
register again by themselves. Stop the node first, and pass the configuration that it is started with.";

/// Examples of `recover`.
pub(super) const RECOVER_AFTER: &str = "\
Examples:
  majordomo recover --force-new-cluster --config /etc/majordomo.toml
  MAJORDOMO__NODE__DATA_DIR=/var/lib/majordomo majordomo recover --force-new-cluster --json

Exit codes: 0 done, 1 failure, 2 wrong usage or configuration, 4 the data directory cannot be used,
5 a newer version wrote it";

/// `bench`.
pub(super) const BENCH: &str = "\
Measures a broker, any broker of 7/MDP or 18/MDP: workers that reply at once, and clients that keep \
--window requests outstanding. It reports requests per second, latencies and, with --pid, the processor \
time that the broker spent per request.

Clients and workers are plain sockets that speak ZMTP and cost this machine little: one thread for all clients \
and one for all workers. With --libzmq they are sockets of libzmq, as most users have them; with --key they are \
sockets of libzmq, too, and all have the same key.

The services have names of their own, \"bench-\" and a random number, so that real clients and workers have \
no part in it; --service chooses another name.

Latencies are those of a loaded broker; use --workers 1 --window 1 for that of a single request.";

/// Examples of `bench`.
pub(super) const BENCH_AFTER: &str = "\
Examples:
  majordomo bench
  majordomo bench --workers 1 --window 1 --seconds 10
  majordomo bench --services 1000 --workers 1000 --size 16KiB --json
  majordomo bench --endpoint 127.0.0.1:5555 --pid \"$(pgrep -o -f 'majordomo serve')\"

Exit codes: 0 measured, 1 failure, requests without a reply, or broker lost, 2 wrong usage, 3 no broker there";

/// `completions`.
pub(super) const COMPLETIONS: &str = "\
Prints a script that completes commands and flags of majordomo in a shell.";

/// Examples of `completions`.
pub(super) const COMPLETIONS_AFTER: &str = "\
Examples:
  majordomo completions bash > /etc/bash_completion.d/majordomo
  majordomo completions zsh > \"${fpath[1]}/_majordomo\"
  majordomo completions fish > ~/.config/fish/completions/majordomo.fish";

/// `keygen`.
pub(super) const KEYGEN: &str = "\
Makes a pair of keys of CURVE (26/CURVEZMQ) and writes two files, as czmq and pyzmq write and read them: \
NAME.key with the public key, to give away, and NAME.key_secret with both, readable by its owner alone. \
A file that is there already is never overwritten.

No port of this version asks for keys yet: they can be made and given away before one does.";

/// Examples of `keygen`.
pub(super) const KEYGEN_AFTER: &str = "\
Examples:
  majordomo keygen billing --out keys             keys/billing.key, keys/billing.key_secret
  majordomo keygen node-1 --node --out /etc/majordomo/keys
  majordomo keygen --kubernetes | kubectl apply -f -

Exit codes: 0 written, 1 failure, 2 wrong usage, or a file is there already";

/// `key`.
pub(super) const KEY: &str = "\
Shows the public key of a key file of `majordomo keygen`, czmq or pyzmq, and whether the file has the \
secret key, too, which is never shown.";

/// Examples of `key`.
pub(super) const KEY_AFTER: &str = "\
Examples:
  majordomo key show keys/billing.key
  majordomo key show keys/billing.key_secret --json

Exit codes: 0 shown, 1 failure, 2 the file is no key file";

/// `identity`.
pub(super) const IDENTITY: &str = "\
Checks a folder of identities: a file NAME.toml or NAME.key for each, and anonymous.toml for peers without \
a key. docs/security.md says what can stand in them.

No port of this version asks for identities yet: their files can be written and checked before one does.";

/// Examples of `identity`.
pub(super) const IDENTITY_AFTER: &str = "\
Examples:
  majordomo identity check /etc/majordomo/identities
  majordomo identity check /etc/majordomo/identities --json

Exit codes: 0 all files are right, 2 some are not: each is named with its reason";
