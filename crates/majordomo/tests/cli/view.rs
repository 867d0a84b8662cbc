//! `majordomo services`, `majordomo status` and `majordomo connections`.

use crate::program::{Broker, majordomo, printed, printed_json, run, stderr};

#[test]
fn services_are_listed() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo", "--concurrency", "1"]);

    let table = broker.run(&["services"]);
    let page = printed_json(&broker.run(&["services", "--json"]));

    assert_eq!(
        printed(&table).lines().map(words).collect::<Vec<_>>(),
        [["SERVICE", "NODES", "WORKERS", "IDLE", "QUEUED"], ["echo", "node-1", "1", "1", "0"]]
    );
    assert_eq!(page["services"][0]["name"], "echo");
    assert_eq!(page["services"][0]["nodes"], serde_json::json!(["node-1"]));
    assert_eq!(page["services"][0]["workers"], 1);
}

#[test]
fn names_are_shown_so_that_they_can_be_called() {
    let mut broker = Broker::start();
    let names = ["größe", "日本語", "it's \"x\"", "a\nb"];
    let _workers: Vec<_> = names.iter().map(|name| broker.work(name, &["--echo"])).collect();

    let page = printed_json(&broker.run(&["services", "--json"]));
    let by_admin = printed_json(&broker.ask(&["services", "--json"]));
    let table = broker.run(&["services"]);

    assert_eq!(page["services"], by_admin["services"]);
    let shown: Vec<&str> =
        page["services"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(
        shown,
        ["a\\x0ab", "größe", "it's \"x\"", "日本語"].map(|name| name.replace("\\x0a", "\\n"))
    );
    for name in &shown[1..] {
        assert_eq!(printed(&broker.run(&["call", name, "hi"])), "hi\n");
    }
    let lines: Vec<&str> = printed(&table).lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("größe     node-1 ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("日本語    node-1 ")), "{lines:?}");
    broker.process.wait_for_line(|line| line.contains("service=größe"));
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn status_names_the_node() {
    let serve = ["serve", "--bind", "127.0.0.1:0", "--name", "node-7"];
    let broker = Broker::start_with(majordomo(&serve));

    let table = broker.run(&["status"]);
    let page = printed_json(&broker.run(&["status", "--json"]));

    assert_eq!(words(printed(&table).lines().next().unwrap()), ["node", "node-7"]);
    let of_node = printed(&table).lines().find(|line| line.starts_with("node-7")).unwrap();
    assert!(words(of_node).contains(&broker.endpoint.as_str()), "{of_node}");
    assert_eq!((&page["node"], &page["nodes"][0]["state"]), (&"node-7".into(), &"up".into()));
}

#[test]
fn broker_without_extensions_is_no_success() {
    let mut serve = majordomo(&["serve", "--bind", "127.0.0.1:0"]);
    serve.env("MAJORDOMO__MMI__EXTENSIONS", "false");
    let broker = Broker::start_with(serve);

    for command in ["services", "status"] {
        let output = broker.run(&[command]);

        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("does not answer mmi."), "{}", stderr(&output));
    }
}

#[test]
fn connections_are_listed_and_can_be_closed() {
    let broker = Broker::start();
    let mut worker = broker.work("echo", &["--echo", "--concurrency", "1"]);
    worker.wait_for_line(|line| line.contains("registered"));

    let table = broker.ask(&["connections"]);
    let page = printed_json(&broker.ask(&["connections", "--json"]));

    let connections = page["connections"].as_array().unwrap();
    let of_worker = connections.iter().find(|it| it["role"] == "worker").unwrap();
    assert_eq!((&of_worker["service"], &of_worker["zmtp"]), (&"echo".into(), &"3.1".into()));
    assert_eq!(of_worker["socket_type"], "DEALER");
    let address = of_worker["address"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let id = of_worker["id"].to_string();
    let line = printed(&table).lines().find(|line| line.contains("echo")).unwrap();
    assert!(line.contains(&id) && line.contains(address) && line.contains("worker"), "{line}");
    let workers = printed_json(&broker.ask(&["connections", "--json"]))["connections"].clone();
    assert!(workers.to_string().contains(address), "{workers}");

    assert_eq!(
        printed(&broker.ask(&["connections", "--kick", &id])),
        format!("connection {id} is closed\n")
    );
    // The worker connects again, under another number.
    worker.wait_for_line(|line| line.contains("registered"));
    let again = printed_json(&broker.ask(&["connections", "--json"]));
    let has_old =
        again["connections"].as_array().unwrap().iter().any(|it| it["id"] == of_worker["id"]);
    assert!(!has_old, "{again}");

    let nothing = broker.ask(&["connections", "--kick", &id]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains(&format!("no connection {id}")), "{}", stderr(&nothing));
}

#[test]
fn nobody_there_ends_with_3() {
    let output = run(&["services", "--endpoint", "127.0.0.1:1", "--timeout", "50ms"]);

    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
