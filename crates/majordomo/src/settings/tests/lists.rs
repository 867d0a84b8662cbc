//! Lists: of seeds, of addresses, of addresses by network.

use super::*;

#[test]
fn lists_are_comma_separated_in_variables() {
    let sources = from_variables(&[("MAJORDOMO__CLUSTER__PEERS", "node-1=a:5556,b")]);

    assert_eq!(
        errors(&sources),
        [
            "cluster.peers = \"node-1=a:5556,b\" (environment variable MAJORDOMO__CLUSTER__PEERS) is \
             not valid: use a list of NAME=HOST:PORT, one for each node, this one included, each at \
             an address that the others can connect to (not *, 0.0.0.0, [::] or port 0); \"b\" is \
             not one"
        ]
    );
    let list = crate::settings::kind::Kind::Peers.read(&"node-1=a:1, node-2=b:2".into()).unwrap();
    assert_eq!(list.to_json(), serde_json::json!(["node-1=a:1", "node-2=b:2"]));
}

#[test]
fn addresses_by_network_are_the_same_from_tables_lists_and_variables() {
    let texts = [
        "[[broker.advertise_for]]\nfrom = '10.0.0.0/8'\naddress = 'a:1'\n\
         [[broker.advertise_for]]\nfrom = 'fd00::/8'\naddress = 'tcp://[fd00::1]:2'\n",
        "[broker]\nadvertise_for = [{ from = 'fd00::/8', address = '[fd00::1]:2' }, \
         { from = '10.0.0.0/8', address = 'tcp://a:1' }]\n",
        "[broker]\nadvertise_for = ['fd00::/8=[fd00::1]:2', '10.0.0.0/8=a:1']\n",
        "[broker]\nadvertise_for = '10.0.0.0/8=a:1,fd00::/8=[fd00::1]:2'\n",
    ];
    let variable = "10.0.0.0/8=tcp://a:1, fd00::/8=tcp://[fd00::1]:2";
    let variable = from_variables(&[("MAJORDOMO__BROKER__ADVERTISE_FOR", variable)]);
    let files = texts.map(file);
    let printed = {
        let settings = Settings::load(&from_file(files[0].path())).unwrap();
        assert!(settings.to_string().contains("advertise_for = [{ from = "), "{settings}");
        file(&settings.to_string())
    };
    let sources = files.iter().chain([&printed]).map(|file| from_file(file.path()));
    for sources in sources.chain([variable]) {
        let settings = Settings::load(&sources).unwrap();

        let told = settings.node().unwrap().advertise_for;
        for (client, address) in [
            ("10.1.2.3", Some("tcp://a:1")),
            ("fd00::7", Some("tcp://[fd00::1]:2")),
            ("11.0.0.1", None),
        ] {
            assert_eq!(told.address_for(client.parse().ok()), address, "{client}");
        }
        let json = serde_json::json!([
            { "from": "10.0.0.0/8", "address": "tcp://a:1" },
            { "from": "fd00::/8", "address": "tcp://[fd00::1]:2" },
        ]);
        assert_eq!(settings.to_json()["broker"]["advertise_for"], json);
    }
}

#[test]
fn one_address_or_a_list_is_listened_at() {
    let list = ["tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///run/x"];
    let of_file = file("[broker]\nbind = ['127.0.0.1:1', 'tcp://[::1]:1', 'ipc:///run/x']\n");
    let of_file = Settings::load(&from_file(of_file.path())).unwrap();
    assert_eq!(of_file.node().unwrap().bind, list);
    let variable = [("MAJORDOMO__BROKER__BIND", "127.0.0.1:1, [::1]:1,ipc:///run/x")];
    let of_variable = Settings::load(&from_variables(&variable)).unwrap();
    assert_eq!(of_variable.to_json(), of_file.to_json());

    let printed = file(&of_file.to_string());
    let again = Settings::load(&from_file(printed.path())).unwrap();
    assert_eq!(again.to_json(), of_file.to_json());

    // As 0.1.0 has it.
    let one = file("[broker]\nbind = \"tcp://*:5555\"\n");
    let one = Settings::load(&from_file(one.path())).unwrap();
    assert_eq!(one.to_json()["broker"]["bind"], "tcp://*:5555");
}

#[test]
fn every_address_of_a_list_needs_a_port_of_its_own() {
    let variables = from_variables(&[
        ("MAJORDOMO__BROKER__BIND", "ipc:///run/x,127.0.0.1:7001,[::1]:7002"),
        ("MAJORDOMO__ADMIN__BIND", "127.0.0.1:7001"),
        ("MAJORDOMO__CLUSTER__BIND", "[::1]:7002"),
        ("MAJORDOMO__CLUSTER__PEERS", "node-1=h:1"),
    ]);
    let errors = errors(&variables);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].starts_with("cluster.bind = ") && errors[0].contains("tcp://[::1]:7002\" has")
    );
    assert!(
        errors[1].starts_with("admin.bind = ") && errors[1].contains("tcp://127.0.0.1:7001\" has")
    );
}

#[test]
fn node_that_clients_of_others_cannot_learn_of_is_advised_against() {
    let settings = |more: &[(&str, &str)]| {
        let own = [("MAJORDOMO__BROKER__BIND", "ipc:///run/x")];
        let settings = from_variables(&[&own, more].concat());
        Settings::load(&settings).unwrap().advice()
    };
    let peers = ("MAJORDOMO__CLUSTER__PEERS", "node-1=127.0.0.1:5556");

    assert_eq!(settings(&[]), [] as [String; 0]);
    assert!(
        settings(&[peers])[0].starts_with("broker.bind = ipc:///run/x is for this machine only")
    );
    let told = ("MAJORDOMO__BROKER__ADVERTISE", "h:1");
    assert_eq!(settings(&[peers, told]), [] as [String; 0]);
}
