use super::*;

fn read(typed: &[&str]) -> Result<Cli, clap::Error> {
    Cli::read(typed.iter().map(OsString::from).collect())
}

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn endpoints_are_a_comma_separated_list() {
    let cli = read(&["majordomo", "call", "s", "--endpoint", "a:1,b:2"]).unwrap();
    let Command::Call(args) = cli.command else { panic!("{cli:?}") };

    assert_eq!(args.brokers.endpoint, ["a:1", "b:2"]);
}

#[test]
fn endpoints_may_be_given_one_by_one() {
    let typed = ["majordomo", "call", "s", "-e", "a:1", "--endpoint", "b:2,c:3"];
    let cli = read(&typed).unwrap();
    let Command::Call(args) = cli.command else { panic!("{cli:?}") };

    assert_eq!(args.brokers.endpoint, ["a:1", "b:2", "c:3"]);
    assert!(!args.brokers.no_learn && !args.not_idempotent);
}

#[test]
fn flags_may_follow_the_body() {
    let typed = ["majordomo", "call", "s", "a", "-", "b", "--timeout", "1s", "--json"];
    let cli = read(&typed).unwrap();
    let Command::Call(args) = cli.command else { panic!("{cli:?}") };

    assert_eq!(args.body, ["a", "-", "b"]);
    assert_eq!((args.timeout, args.json), (Duration::from_secs(1), true));
}

#[test]
fn a_node_is_asked_one_way() {
    let both = ["majordomo", "status", "--admin", "http://a:1", "--endpoint", "a:2"];
    assert!(Cli::try_parse_from(both).is_err());
    assert!(Cli::try_parse_from(&both[..4]).is_ok());
}

#[test]
fn recovery_must_be_demanded() {
    assert!(Cli::try_parse_from(["majordomo", "recover"]).is_err());
    assert!(Cli::try_parse_from(["majordomo", "recover", "--force-new-cluster"]).is_ok());
}

#[test]
fn a_worker_echoes_or_runs_a_command() {
    for handler in [&["--echo", "--exec", "cat"][..], &[], &["--echo", "--reply-errors"]] {
        let typed = ["majordomo", "work", "s"].iter().chain(handler);
        assert!(Cli::try_parse_from(typed).is_err(), "{handler:?}");
    }
    assert!(Cli::try_parse_from(["majordomo", "work", "s", "--exec", "cat"]).is_ok());
}
