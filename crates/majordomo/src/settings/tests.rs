//! What is read, what is refused, and in which words.

mod lists;

use std::{ffi::OsString, fs, io::Write as _, path::Path, time::Duration};

use mdp_broker::{Delivery, Minority};
use mdp_node::{ClusterConfig, Consistency, Seed};
use tempfile::NamedTempFile;

use super::{
    FlagValue, Settings, Sources,
    keys::{KEYS, SERVICE_KEYS},
};

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(path: &Path) -> Sources {
    Sources { file: Some(path.to_owned()), ..Sources::default() }
}

fn from_variables(variables: &[(&str, &str)]) -> Sources {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { variables, ..Sources::default() }
}

fn errors(sources: &Sources) -> Vec<String> {
    let problems = Settings::load(sources).unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

/// The errors of a file, whose name is written as FILE.
fn file_errors(text: &str) -> Vec<String> {
    let file = file(text);
    let name = file.path().display().to_string();
    errors(&from_file(file.path())).iter().map(|error| error.replace(&name, "FILE")).collect()
}

fn documented() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/majordomo.toml")
}

#[test]
fn built_in_values_are_those_of_the_engine() {
    let settings = Settings::load(&Sources::default()).unwrap();

    assert_eq!(settings.engine(), mdp_broker::Settings::default());
}

#[test]
fn built_in_values_are_those_of_the_node() {
    let built_in = Settings::load(&Sources::default()).unwrap().node().unwrap();
    let of_node = mdp_node::NodeConfig::new("node-1".parse().unwrap());

    assert_eq!(format!("{built_in:?}"), format!("{of_node:?}"));
}

#[test]
fn documented_file_holds_exactly_the_built_in_values() {
    let built_in = Settings::load(&Sources::default()).unwrap();
    let documented = Settings::load(&from_file(&documented())).unwrap();

    assert_eq!(documented.to_json(), built_in.to_json());
}

#[test]
fn documented_file_has_every_key() {
    let text = fs::read_to_string(documented()).unwrap();
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.push(format!("{section}.{key}"));
        }
    }

    assert_eq!(found, KEYS.iter().map(|key| key.name.to_owned()).collect::<Vec<_>>());
    for key in SERVICE_KEYS {
        assert!(text.contains(&format!("\n# {} = ", key.name)), "service key {}", key.name);
    }
}

#[test]
fn printed_configuration_reads_back_as_the_same() {
    let text = "[broker]\nmax_workers = 7\n[[service]]\npattern = 'a.*'\nrequest_ttl = '5s'\n";
    let settings = Settings::load(&from_file(file(text).path())).unwrap();
    let printed = file(&settings.to_string());

    let again = Settings::load(&from_file(printed.path())).unwrap();

    assert_eq!(again.to_json(), settings.to_json());
    assert!(settings.to_string().contains("max_workers = 7"), "{settings}");
    assert!(settings.to_string().contains("# default"), "{settings}");
}

#[test]
fn flags_go_before_environment_before_file_before_defaults() {
    let file = file("[broker]\nmax_workers = 1\nmax_attempts = 1\nmax_services = 1\n");
    let mut sources = from_variables(&[
        ("MAJORDOMO__BROKER__MAX_WORKERS", "2"),
        ("MAJORDOMO__BROKER__MAX_SERVICES", "2_000"),
        ("MAJORDOMO__BROKER__BIND", "127.0.0.1:1"),
        ("MAJORDOMO_ENDPOINT", "of no concern"),
    ]);
    sources.file = Some(file.path().to_owned());
    sources.flags =
        vec![FlagValue { key: "broker.bind", value: "127.0.0.1:2".into(), flag: "--bind" }];

    let settings = Settings::load(&sources).unwrap();

    assert_eq!(settings.number("broker.max_attempts"), 1);
    assert_eq!(settings.number("broker.max_workers"), 2);
    assert_eq!(settings.number("broker.max_services"), 2_000);
    assert_eq!(settings.addresses("broker.bind"), ["tcp://127.0.0.1:2"]);
    assert_eq!(settings.duration("broker.request_ttl"), Duration::from_secs(60));
}

#[test]
fn text_of_digits_in_the_environment_stays_text() {
    let sources = from_variables(&[("MAJORDOMO__NODE__NAME", "007")]);

    assert_eq!(Settings::load(&sources).unwrap().text("node.name"), "007");
}

#[test]
fn rules_inherit_what_they_do_not_say() {
    let text = "
        [broker]
        max_attempts = 9
        max_queued_requests = 100
        [[service]]
        pattern = 'billing.*'
        delivery = 'at-most-once'
        request_ttl = '5s'
        [[service]]
        pattern = '*'
        heartbeat_interval = '1s'
        heartbeat_liveness = 5
        max_queued_requests = 10
        busy_timeout = '1h'
        max_attempts = 1";
    let engine = Settings::load(&from_file(file(text).path())).unwrap().engine();

    let billing = engine.policy_of(b"billing.pay");
    assert_eq!(billing.delivery, Delivery::AtMostOnce);
    assert_eq!(billing.request_ttl, Duration::from_secs(5));
    assert_eq!((billing.max_attempts, billing.max_queued_requests), (9, 100));
    assert_eq!(billing.expiry(), Duration::from_millis(7_500));
    let other = engine.policy_of(b"echo");
    assert_eq!(other.delivery, Delivery::AtLeastOnce);
    assert_eq!(other.expiry(), Duration::from_secs(5));
    assert_eq!((other.max_attempts, other.max_queued_requests), (1, 10));
    assert_eq!(other.busy_timeout, Duration::from_secs(3_600));
}

#[test]
fn unknown_keys_of_a_file_are_named_with_the_key_that_was_meant() {
    assert_eq!(
        file_errors("[broker]\nhartbeat_interval = '1s'\n"),
        ["broker.hartbeat_interval = \"1s\" (file FILE): there is no such key; did you mean \
             broker.heartbeat_interval?"]
    );
    assert_eq!(
        file_errors("[node]\nmax_workers = 3\n[brokr]\nbind = 'x'\n"),
        [
            "brokr.bind = \"x\" (file FILE): there is no such key; did you mean broker.bind?",
            "node.max_workers = 3 (file FILE): there is no such key; did you mean \
             broker.max_workers?"
        ]
    );
    assert_eq!(
        file_errors("[colour]\nred = true\n"),
        ["colour.red = true (file FILE): there is no such key; see config/majordomo.toml for all \
          keys"]
    );
    assert_eq!(
        file_errors("[[service]]\npattern = 'a'\nrequest_tll = '1s'\n[[service]]\n"),
        [
            "service[0].request_tll = \"1s\" (file FILE): there is no such key; did you mean \
             service[0].request_ttl?",
            "service[1] (file FILE) has no pattern: say which services it is for"
        ]
    );
}

#[test]
fn unknown_variables_are_named_with_the_variable_that_was_meant() {
    assert_eq!(
        errors(&from_variables(&[("MAJORDOMO__BROKER__BINT", "x")])),
        [
            "broker.bint = \"x\" (environment variable MAJORDOMO__BROKER__BINT) cannot be used: there \
          is no such key; did you mean MAJORDOMO__BROKER__BIND?"
        ]
    );
    assert_eq!(
        errors(&from_variables(&[("MAJORDOMO__SERVICE__PATTERN", "x")])),
        ["service.pattern = \"x\" (environment variable MAJORDOMO__SERVICE__PATTERN) cannot be \
          used: rules for services stand in a file, as [[service]]"]
    );
    assert_eq!(
        errors(&from_variables(&[("MAJORDOMO__VERBOSITY", "x")])),
        ["verbosity = \"x\" (environment variable MAJORDOMO__VERBOSITY) cannot be used: there is \
          no such key; variables are MAJORDOMO__SECTION__KEY"]
    );
}

#[test]
fn variables_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let variables = vec![("MAJORDOMO__NODE__NAME".into(), OsString::from_vec(vec![0xff]))];

    assert_eq!(
        errors(&Sources { variables, ..Sources::default() }),
        ["environment variable MAJORDOMO__NODE__NAME is not UTF-8: \"\\xFF\""]
    );
}

/// A file with one bad value, and the error.
const BAD_VALUES: [(&str, &str); 24] = [
    (
        "[broker]\nheartbeat_interval = '5ms'",
        "broker.heartbeat_interval = \"5ms\" (file FILE) is not valid: use a time with its unit \
             from \"10ms\" to \"1h\", such as \"500ms\", \"60s\" or \"15m\"",
    ),
    (
        "[broker]\nrequest_ttl = 60",
        "broker.request_ttl = 60 (file FILE) is not valid: use a time with its unit from \"0s\" \
             to \"366d\", such as \"500ms\", \"60s\" or \"15m\"",
    ),
    (
        "[broker]\nheartbeat_liveness = 1",
        "broker.heartbeat_liveness = 1 (file FILE) is not valid: use a whole number from 2 to \
             1000",
    ),
    (
        "[broker]\nmax_workers = 0",
        "broker.max_workers = 0 (file FILE) is not valid: use a whole number from 1 to 10000000",
    ),
    (
        "[broker]\nmax_message_bytes = '2GiB'",
        "broker.max_message_bytes = \"2GiB\" (file FILE) is not valid: use a size from \"1KiB\" \
             to \"1GiB\", such as \"64MiB\" (KiB, MiB, GiB, or bytes without unit)",
    ),
    (
        "[broker]\ndelivery = 'at-most-onse'",
        "broker.delivery = \"at-most-onse\" (file FILE) is not valid: use \"at-least-once\" or \
             \"at-most-once\"; did you mean \"at-most-once\"?",
    ),
    (
        "[broker]\nbind = 'ipc://run/x'",
        "broker.bind = \"ipc://run/x\" (file FILE) is not valid: use tcp://HOST:PORT, where HOST is \
             an address, a network interface or * for all, and PORT is 0 or * for any free one, or \
             ipc:///PATH, or a list of these; what follows ipc:// is the absolute path of a file, of at \
             most 107 bytes, as in ipc:///run/majordomo/clients",
    ),
    (
        "[cluster]\nbind = ['*:5556', '*:5557']",
        "cluster.bind = [\"*:5556\", \"*:5557\"] (file FILE) is not valid: use one \
             tcp://HOST:PORT, where HOST is an address, a network interface or * for all, and PORT is \
             0 or * for any free one",
    ),
    (
        "[cluster]\nrelay_bind = 'ipc:///run/x'",
        "cluster.relay_bind = \"ipc:///run/x\" (file FILE) is not valid: use one tcp://HOST:PORT, \
             where HOST is an address, a network interface or * for all, and PORT is 0 or * for any \
             free one; a Unix socket (ipc://) is for programs on this machine only; it needs tcp://",
    ),
    (
        "[broker]\nadvertise = '0.0.0.0:5555'",
        "broker.advertise = \"0.0.0.0:5555\" (file FILE) is not valid: use tcp://HOST:PORT that \
             others can connect to (not *, 0.0.0.0, [::] or port 0)",
    ),
    (
        "[[broker.advertise_for]]\nfrom = '10.1.2.3/8'\naddress = 'h:1'",
        "broker.advertise_for = [{ .. }] (file FILE) is not valid: use 10.0.0.0/8 instead of \
             10.1.2.3/8, which has bits behind the first 8",
    ),
    (
        "[[broker.advertise_for]]\nfrom = '10.0.0.0/8'\naddress = '*:1'",
        "broker.advertise_for = [{ .. }] (file FILE) is not valid: use tcp://HOST:PORT that others \
             can connect to (not *, 0.0.0.0, [::] or port 0) for 10.0.0.0/8; \"*:1\" is no such \
             address",
    ),
    (
        "[[broker.advertise_for]]\nfrom = '10.0.0.0/8'\nadress = 'h:1'",
        "broker.advertise_for = [{ .. }] (file FILE) is not valid: use from and address, and nothing \
             else, in each [[broker.advertise_for]]; number 1 has \"adress\"; did you mean address?",
    ),
    (
        "[broker]\nadvertise_for = [{ from = '10.0.0.0/8' }]",
        "broker.advertise_for = [{ .. }] (file FILE) is not valid: use from and address, both texts, \
             in each [[broker.advertise_for]]; number 1 has no address",
    ),
    (
        "[broker.advertise_for]\nfrom = '10.0.0.0/8'\naddress = 'h:1'",
        "broker.advertise_for = { .. } (file FILE) is not valid: use a list: in a file \
             [[broker.advertise_for]] with from = \"10.0.0.0/8\" and address = \"tcp://HOST:PORT\" for \
             each network, in a variable 10.0.0.0/8=tcp://HOST:PORT with commas between",
    ),
    (
        "[broker]\nadvertise_for = ['10.0.0.0/8=h:1', '10.0.0.0/8=h:2']",
        "broker.advertise_for = [\"10.0.0.0/8=h:1\", \"10.0.0.0/8=h:2\"] (file FILE) is not valid: \
             use one address for each network; 10.0.0.0/8 is there twice",
    ),
    (
        "[mmi]\nextensions = 'yes'",
        "mmi.extensions = \"yes\" (file FILE) is not valid: use true or false",
    ),
    (
        "[node]\nname = 'a b'",
        "node.name = \"a b\" (file FILE) is not valid: use 1 to 63 letters, digits, '-', '_' or \
             '.'",
    ),
    (
        "broker = 5",
        "broker = 5 (file FILE) is not valid: use a section: [broker] on a line of its own",
    ),
    (
        "[broker.bind]\nx = 1",
        "broker.bind = { .. } (file FILE) is not valid: use tcp://HOST:PORT, where HOST is an \
             address, a network interface or * for all, and PORT is 0 or * for any free one, or \
             ipc:///PATH, or a list of these",
    ),
    (
        "[[service]]\npattern = 'mmi.x'",
        "service[0].pattern = \"mmi.x\" (file FILE) is not valid: use 1 to 255 bytes of a \
             service name, in which * stands for any bytes, outside of the broker's own \"mmi.\"",
    ),
    (
        "[[service]]\npattern = '*'\n[[service]]\npattern = 'a'",
        "service[1].pattern = \"a\" (file FILE) cannot be used: service[0].pattern comes first \
             and matches every such service",
    ),
    (
        "[cluster]\nelection_timeout_min = '1s'",
        "cluster.election_timeout_min = \"1s\" (file FILE) cannot be used: it must be shorter \
             than cluster.election_timeout_max = \"400ms\"",
    ),
    (
        "[log]\nlevel = 'loud'",
        "log.level = \"loud\" (file FILE) is not valid: use \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\" or \"off\", also for parts of the program as in \
             \"info,mdp_node=debug\"",
    ),
];

#[test]
fn bad_values_name_key_value_origin_and_what_is_right() {
    for (text, error) in BAD_VALUES {
        assert_eq!(file_errors(text), [error], "{text}");
    }
}

#[test]
fn all_bad_values_are_reported_at_once() {
    let errors =
        file_errors("[broker]\nmax_attempts = -1\nmax_services = 1.5\nmax_workers = true\n");

    assert_eq!(errors.len(), 3, "{errors:?}");
}

/// A file with keys of a cluster that do not fit together, and the error.
const BAD_CLUSTERS: [(&str, &str); 6] = [
    (
        "[cluster]\nexpect = 3\npeers = ['node-1=h:1']",
        "cluster.expect = 3 (file FILE) cannot be used: cluster.peers has 1 node, and with fewer \
             than expected this node would start a cluster of its own; set cluster.peers to all nodes, \
             or cluster.expect to 0",
    ),
    (
        "[cluster]\nexpect = 3",
        "cluster.expect = 3 (file FILE) cannot be used: cluster.peers has 0 nodes, and with fewer \
             than expected this node would start a cluster of its own; set cluster.peers to all nodes, \
             or cluster.expect to 0",
    ),
    (
        "[node]\nname = 'node-9'\n[cluster]\npeers = ['node-1=h:1', 'node-2=h:2']",
        "node.name = \"node-9\" (file FILE) cannot be used: it is none of cluster.peers (node-1, \
             node-2); use one of these, or, for a node that joins them, set cluster.advertise to the \
             HOST:PORT that they reach it at",
    ),
    (
        "[cluster]\npeers = ['node-1=h:1', 'node-2=h:2']\nadvertise = 'h:2'",
        "cluster.advertise = \"h:2\" (file FILE) cannot be used: cluster.peers gives this address to \
             node-2; use the address of this node, node-1",
    ),
    (
        "[cluster]\npeers = ['node-1=h:1']\nadvertise = '0.0.0.0:1'",
        "cluster.advertise = \"0.0.0.0:1\" (file FILE) is not valid: use tcp://HOST:PORT that others \
             can connect to (not *, 0.0.0.0, [::] or port 0)",
    ),
    (
        "[cluster]\npeers = ['node-1=h:1']\nbind = '*:0'",
        "cluster.bind = \"*:0\" (file FILE) cannot be used: the other nodes could not know which \
             port was free; use the port of this node's entry in cluster.peers",
    ),
];

#[test]
fn keys_of_a_cluster_must_fit_together() {
    for (text, error) in BAD_CLUSTERS {
        assert_eq!(file_errors(text), [error], "{text}");
    }
}

#[test]
fn peers_are_a_cluster_and_none_are_not() {
    let none = Settings::load(&from_variables(&[("MAJORDOMO__CLUSTER__PEERS", "")])).unwrap();
    assert!(none.node().unwrap().cluster.is_none());
    assert_eq!(none.cluster_address(), None);
    let advice = none.advice();
    assert!(
        advice.len() == 1 && advice[0].contains("MAJORDOMO__CLUSTER__PEERS is empty"),
        "{advice:?}"
    );

    let three = from_variables(&[
        ("MAJORDOMO__CLUSTER__PEERS", "node-1=h:1, node-2=tcp://h:2,node-3=h:3"),
        ("MAJORDOMO__CLUSTER__EXPECT", "3"),
        ("MAJORDOMO__CLUSTER__BIND", "tcp://*:1"),
        ("MAJORDOMO__SECURITY__INSECURE", "true"),
        ("MAJORDOMO__CLUSTER__MINORITY", "fail"),
        ("MAJORDOMO__MMI__CONSISTENCY", "local"),
        ("MAJORDOMO__NODE__DATA_DIR", "/x"),
    ]);
    let three = Settings::load(&three).unwrap();
    let cluster = three.node().unwrap().cluster.unwrap();
    let seeds = cluster.seeds.iter().map(|seed| (seed.name.as_str(), seed.endpoint.as_str()));
    assert_eq!(
        seeds.collect::<Vec<_>>(),
        [("node-1", "tcp://h:1"), ("node-2", "tcp://h:2"), ("node-3", "tcp://h:3")]
    );
    assert_eq!(cluster.bind, "tcp://*:1");
    assert_eq!((cluster.minority, cluster.consistency), (Minority::Fail, Consistency::Local));
    assert_eq!(cluster.data_dir, Path::new("/x"));
    assert_eq!(three.cluster_address(), Some("tcp://h:1"));
    assert_eq!(three.advice(), [] as [String; 0]);
}

#[test]
fn built_in_values_of_a_cluster_are_those_of_the_node() {
    let settings = from_variables(&[("MAJORDOMO__CLUSTER__PEERS", "node-1=h:1")]);
    let built_in = Settings::load(&settings).unwrap().node().unwrap().cluster.unwrap();
    let seed = Seed { name: "node-1".parse().unwrap(), endpoint: "tcp://h:1".to_owned() };
    let of_node = ClusterConfig::new(vec![seed], "majordomo-data".into());

    assert_eq!(format!("{built_in:?}"), format!("{of_node:?}"));
}

#[test]
fn node_that_is_no_peer_joins_at_its_own_address() {
    let settings = from_variables(&[
        ("MAJORDOMO__NODE__NAME", "node-4"),
        ("MAJORDOMO__CLUSTER__PEERS", "node-1=h:1,node-2=h:2,node-3=h:3"),
        ("MAJORDOMO__CLUSTER__ADVERTISE", "h:4"),
    ]);

    let settings = Settings::load(&settings).unwrap();

    assert_eq!(settings.cluster_address(), Some("tcp://h:4"));
}

#[test]
fn what_works_and_is_not_meant_is_advised_against() {
    let settings = from_variables(&[("MAJORDOMO__CLUSTER__PEERS", "node-1=h:1,node-2=h:2")]);

    let advice = Settings::load(&settings).unwrap().advice();

    assert_eq!(
        advice,
        [
            "cluster.peers has 2 nodes: an even number survives the loss of no more nodes than one \
             less would; use 3 or 5",
            "cluster.bind = \"tcp://127.0.0.1:5556\" is for this machine only, and node-2=h:2 is \
             elsewhere; use \"tcp://*:PORT\" or an address of this machine",
        ]
    );
}

#[test]
fn ports_that_strangers_reach_are_advised_against_unless_they_are_meant() {
    let advice =
        |variables: &[(&str, &str)]| Settings::load(&from_variables(variables)).unwrap().advice();
    let bind = ("MAJORDOMO__BROKER__BIND", "127.0.0.1:1,*:2,ipc:///x");
    let peers = ("MAJORDOMO__CLUSTER__PEERS", "node-1=127.0.0.1:5");
    let cluster = ("MAJORDOMO__CLUSTER__BIND", "*:5");

    assert_eq!(
        advice(&[bind]),
        [
            "nothing proves yet who a peer is: whatever reaches tcp://*:2 can call and register every \
          service; let only trusted peers reach them, and say so with security.insecure = true"
        ]
    );
    assert_eq!(
        advice(&[bind, peers, cluster, ("MAJORDOMO__CLUSTER__RELAY_BIND", "eth0:6")]),
        [
            "nothing proves yet who a peer is: whatever reaches tcp://*:2 can call and register every \
          service, and whatever reaches tcp://*:5, tcp://eth0:6 controls the cluster; let only trusted \
          peers reach them, and say so with security.insecure = true"
        ]
    );
    // Without peers its port is not opened.
    assert_eq!(advice(&[cluster]), [] as [String; 0]);
    let is_meant = ("MAJORDOMO__SECURITY__INSECURE", "true");
    assert_eq!(advice(&[bind, peers, cluster, is_meant]), [] as [String; 0]);
}

#[test]
fn files_of_three_nodes_make_one_cluster() {
    let mut seeds = Vec::new();
    for number in 1..=3 {
        let name = format!("../../config/three-node/node-{number}.toml");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);

        let settings = Settings::load(&from_file(&file)).unwrap();

        let config = settings.node().unwrap();
        let cluster = config.cluster.unwrap();
        assert_eq!(settings.cluster_address(), Some(cluster.bind.as_str()));
        assert_eq!(config.bind, [format!("tcp://127.0.0.1:555{number}")]);
        assert_eq!(settings.admin_bind(), Some(format!("127.0.0.1:558{number}").as_str()));
        assert_eq!(settings.advice(), [] as [String; 0]);
        seeds.push(cluster.seeds);
    }
    assert_eq!(seeds[0].len(), 3);
    assert!(seeds.iter().all(|other| *other == seeds[0]));
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let missing = errors(&from_file(Path::new("no/such/file.toml")));
    assert_eq!(
        missing,
        ["file no/such/file.toml cannot be opened (flag --config): No such file or directory (os \
          error 2)"]
    );

    let broken = file_errors("[broker]\nbind = \n");
    assert!(broken[0].starts_with("file FILE is not valid TOML: "), "{broken:?}");
    assert!(broken[0].contains("line 2"), "{broken:?}");
}

#[test]
fn every_default_is_within_its_range() {
    for key in KEYS {
        assert!(key.kind.read(&key.default.into()).is_ok(), "{}", key.name);
    }
}
