//! `docker run` of the image, and nothing else.

use cluster_tests::{RawClient, RawWorker, Receipt, Version};

use crate::{
    docker::{Network, Started, Volume, docker},
    image, machine,
};

/// What the image may have, with all libraries.
const SIZE_MAX: u64 = 60_000_000;

/// Nothing that the program could do without.
const CONFINED: [&str; 5] =
    ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"];

#[test]
fn image_is_small_and_says_what_it_is() {
    let Some(_machine) = machine() else { return };
    let image = image();
    let inspect = |format: &str| docker(&["image", "inspect", "--format", format, &image]);

    let size: u64 = inspect("{{.Size}}").parse().unwrap();
    assert!(size < SIZE_MAX, "{size} bytes");
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");
    let label = |name: &str| inspect(&format!("{{{{index .Config.Labels {name:?}}}}}"));
    assert_eq!(label("org.opencontainers.image.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("org.opencontainers.image.title"), "majordomo");
    let ports = inspect("{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}");
    assert_eq!(ports, "5555/tcp 5556/tcp 5557/tcp 5580/tcp");
    let version = docker(&["run", "--rm", "--network", "none", &image, "--version"]);
    assert!(version.ends_with(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn one_node_without_any_right_answers_a_call_and_drains() {
    let Some(_machine) = machine() else { return };
    let network = Network::create();
    let options = [&CONFINED[..], &["--network", &network.name]].concat();
    let node = Started::run(&options, &image(), &[]);
    let container = &node.container;
    container.wait_until_ready();

    let worker = RawWorker::register(container, Version::V01, "echo");
    let client = RawClient::connect(container, Version::V02);
    client.request("echo", "hello");
    worker.serve("hello", "hello, you");
    client.expect_reply("echo", "hello, you");

    let processes = docker(&["top", &container.0, "-eo", "pid,uid,comm"]);
    let users = processes.lines().skip(1).map(|line| line.split_whitespace().nth(1));
    assert_eq!(users.collect::<Vec<_>>(), [Some("65532")], "{processes}");
    drop((worker, client));
    docker(&["stop", &container.0]);
    assert_eq!(container.exit_code(), "exited 0", "{}", container.log());
    assert_eq!(Receipt::read_all(&container.log()).len(), 1, "{}", container.log());
}

#[test]
fn healthcheck_of_the_image_becomes_healthy() {
    let Some(_machine) = machine() else { return };
    let network = Network::create();
    let in_network = ["--network", &network.name];
    let node = Started::run(&[&CONFINED[..], &in_network].concat(), &image(), &[]);

    node.container.wait_until("healthy", |container| {
        container.inspect("{{.State.Health.Status}}") == "healthy"
    });
}

/// A wrong check would call everything healthy.
#[test]
fn healthcheck_of_a_node_that_nobody_can_ask_fails() {
    let Some(_machine) = machine() else { return };
    let options = ["--env", "MAJORDOMO__ADMIN__BIND=", "--network", "none"];
    let options = [&options[..], &["--health-interval", "1s", "--health-retries", "1"]].concat();
    let start_period = ["--health-start-period", "1s"];
    let node = Started::run(&[&options[..], &start_period].concat(), &image(), &[]);

    node.container.wait_until("unhealthy", |container| {
        container.inspect("{{.State.Health.Status}}") == "unhealthy"
    });
}

/// A worker and a client of the same image find the node by its name.
#[test]
fn image_has_worker_and_client_too() {
    let Some(_machine) = machine() else { return };
    let network = Network::create();
    let image = image();
    let options = [&CONFINED[..], &["--network", &network.name]].concat();
    let node = Started::run(&[&options[..], &["--network-alias", "broker"]].concat(), &image, &[]);
    node.container.wait_until_ready();
    let at_node = ["--endpoint", "broker:5555"];
    let work = [&["work", "echo", "--echo"][..], &at_node].concat();
    let worker = Started::run(&options, &image, &work);

    let call = [&["call", "echo", "hello"][..], &at_node].concat();
    let answer = docker(&[&["run", "--rm"][..], &options, &[&image], &call].concat());

    assert_eq!(answer, "hello", "{}", worker.container.log());
    docker(&["stop", &worker.container.0]);
    assert_eq!(worker.container.exit_code(), "exited 0", "{}", worker.container.log());
}

/// Containers beside the node, of another user, need its group alone.
#[test]
fn unix_socket_on_a_new_volume_is_for_the_group_of_the_node() {
    let Some(_machine) = machine() else { return };
    let (network, volume, image) = (Network::create(), Volume::create(), image());
    let mount = format!("{}:/run/majordomo", volume.name);
    let socket = "ipc:///run/majordomo/clients";
    let bind = format!("MAJORDOMO__BROKER__BIND=tcp://*:5555,{socket}");
    let options = [&CONFINED[..], &["--volume", &mount]].concat();
    let of_node = ["--env", &bind, "--network", &network.name];
    let node = Started::run(&[&options[..], &of_node].concat(), &image, &[]);
    node.container.wait_until_ready();

    let of_client = ["--network", "none", "--user", "1000:1000", "--group-add", "65532"];
    let call = ["call", "mmi.echo", "hello", "--endpoint", socket];
    let answer = docker(&[&["run", "--rm"][..], &options, &of_client, &[&image], &call].concat());

    assert_eq!(answer, "hello", "{}", node.container.log());
}
