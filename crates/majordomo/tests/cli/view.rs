//! `majordomo services` and `majordomo status`.

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
fn nobody_there_ends_with_3() {
    let output = run(&["services", "--endpoint", "127.0.0.1:1", "--timeout", "50ms"]);

    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
