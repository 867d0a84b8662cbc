//! What the procedures refuse, and that a refusal changes nothing.

use std::{fs, path::Path, process::Command};

use crate::site::{PROCEDURES, Site};

/// Every procedure, with how many arguments it takes.
const SCRIPTS: [(&str, usize); 11] = [
    ("add-node.sh", 1),
    ("back-up.sh", 2),
    ("deploy.sh", 0),
    ("finalize.sh", 0),
    ("recover.sh", 1),
    ("remove-node.sh", 1),
    ("replace-node.sh", 1),
    ("restart.sh", 0),
    ("restore.sh", 2),
    ("roll-back.sh", 1),
    ("upgrade.sh", 1),
];

/// Not a procedure, but what they share.
const SHARED: [&str; 2] = ["common.sh", "site.sh"];

fn scripts_of_the_folder() -> Vec<String> {
    let entries = fs::read_dir(PROCEDURES).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".sh")).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_script_is_clean_for_shellcheck() {
    let scripts = scripts_of_the_folder();
    let output = Command::new("shellcheck")
        .args(["--external-sources", "--format=gcc"])
        .args(&scripts)
        .current_dir(PROCEDURES)
        .output()
        .expect("shellcheck is installed by `cargo xtask test`");

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(scripts.len(), SCRIPTS.len() + SHARED.len(), "a script is missing in this test");
}

#[test]
fn every_script_says_what_it_does_and_what_is_wrong_with_its_arguments() {
    let site = Site::new(&[]);
    for (script, count) in SCRIPTS {
        for arguments in [&["--help"][..], &["node-1", "-h"], &["node-9", "--yes", "--help"]] {
            let (code, said) = site.try_run(script, arguments);
            assert_eq!(code, Some(0), "{script} {arguments:?}: {said}");
            assert!(said.starts_with(&format!("usage: {script}")), "{script}: {said}");
            assert!(said.contains("its nodes are: node-1 node-2 node-3"), "{script}: {said}");
        }
        let too_many = vec!["node-1"; count + 1];
        let too_few = vec!["node-1"; count.saturating_sub(1)];
        let empty = vec![""; count];
        let mut wrong = vec![vec!["--force"], too_many];
        if count > 0 {
            wrong.extend([too_few, empty]);
        }
        for arguments in wrong {
            let (code, said) = site.try_run(script, &arguments);
            assert_eq!(code, Some(2), "{script} {arguments:?}: {said}");
            assert!(said.contains(&format!("usage: {script}")), "{script}: {said}");
        }
    }
    assert_eq!(site.processes(), [], "no script started anything");
}

/// A cluster that works stays as it is, whatever is asked for by mistake.
#[test]
fn nothing_is_done_to_a_cluster_that_works() {
    let site = Site::new(&[("this", cluster_tests::program())]);
    site.run("deploy.sh", &[]);
    let copy = site.path("node-3.tar.gz");
    site.run("back-up.sh", &[&copy, "node-3"]);
    let [damaged, other, missing] =
        ["damaged.tgz", "other.tgz", "nosuch.tgz"].map(|f| site.path(f));
    let bytes = fs::read(&copy).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let folder = Path::new(&copy).parent().unwrap();
    let tar = Command::new("tar").arg("-czf").arg(&other).args(["-C", PROCEDURES, "."]).status();
    assert!(tar.unwrap().success());
    let before = (site.processes(), site.cluster_id("node-1"));
    let files = ["node-1", "node-2", "node-3"].map(|node| site.data_files(node));
    assert!(files.iter().all(|names| !names.is_empty()), "{files:?}");

    let cases: [(&str, &[&str], i32, &str); 17] = [
        ("recover.sh", &["node-9"], 2, "node-9 is no node of this site"),
        ("recover.sh", &["node-3"], 1, "a majority answers (node-1 node-2 node-3)"),
        ("restore.sh", &[&missing, "node-2"], 1, "there is no such file"),
        ("restore.sh", &[&damaged, "node-2"], 1, "is no archive of back-up.sh, or is damaged"),
        ("restore.sh", &[&other, "--yes", "node-2"], 1, "there is no raft.redb in it"),
        ("restore.sh", &[&copy, "node-9"], 2, "node-9 is no node of this site"),
        ("restore.sh", &[&copy, "node-3"], 1, "a majority answers"),
        ("replace-node.sh", &["node-2"], 1, "node-2 is ready, so its volume is not lost"),
        ("replace-node.sh", &["node-9"], 2, "node-9 is no node of this site, and no member"),
        ("remove-node.sh", &["node-9"], 2, "node-9 is no member of this cluster"),
        ("remove-node.sh", &["node/1"], 2, "node/1 is no name of a node"),
        ("add-node.sh", &["node-2"], 1, "node-2 is a member already"),
        ("back-up.sh", &[&copy, "node-3"], 1, "is there already"),
        ("back-up.sh", &[&missing, "node-9"], 2, "node-9 is no node of this site"),
        ("upgrade.sh", &["nosuch"], 1, "version nosuch is not installed on the machine of node-1"),
        ("roll-back.sh", &["nosuch"], 1, "version nosuch is not installed"),
        ("deploy.sh", &[], 1, "these nodes run already: node-1 node-2 node-3"),
    ];
    for (script, arguments, expected, wanted) in cases {
        let (code, said) = site.try_run(script, arguments);
        assert_eq!(code, Some(expected), "{script} {arguments:?}: {said}");
        assert!(said.contains(wanted), "{script} {arguments:?}: {said}");
    }

    let (_, said) = site.try_run("restore.sh", &[&copy, "node-3"]);
    for line in ["node-1: killed", "node-2: killed", "node-3: killed", "bytes), then as recover.sh"]
    {
        assert!(said.contains(line), "what would be done is listed first: {said}");
    }
    assert_eq!((site.processes(), site.cluster_id("node-1")), before);
    assert_eq!(["node-1", "node-2", "node-3"].map(|node| site.data_files(node)), files);
    assert!(!folder.join("nosuch.tgz").exists());

    // One node is away: no script takes another one.
    site.lose("node-2");
    for (script, arguments) in [
        ("restart.sh", &[][..]),
        ("back-up.sh", &[missing.as_str(), "node-1"]),
        ("upgrade.sh", &["this"]),
        ("replace-node.sh", &["node-1"]),
    ] {
        let (code, said) = site.try_run(script, arguments);
        assert_eq!(code, Some(1), "{script}: {said}");
        assert!(said.contains("node-2 is not ready"), "{script}: {said}");
    }
    site.run("replace-node.sh", &["node-2"]);
}
