//! Keys and identities, as people make and check them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::tempdir;

use crate::program::{printed, printed_json, run, stderr, stdout};

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn pair_is_two_files_of_which_one_is_the_owners_alone() {
    let directory = tempdir().unwrap();
    let out = directory.path().to_str().unwrap();

    let made = run(&["keygen", "billing", "--out", out, "--json"]);

    let (public, secret) =
        (directory.path().join("billing.key"), directory.path().join("billing.key_secret"));
    assert_eq!((mode(&public) & 0o700, mode(&secret)), (0o600, 0o600));
    let made = printed_json(&made);
    let shown = run(&["key", "show", public.to_str().unwrap(), "--json"]);
    let of_public = printed_json(&shown);
    assert_eq!(of_public["public_key"], made["public_key"]);
    assert_eq!(of_public["secret"], false);
    let shown = run(&["key", "show", secret.to_str().unwrap(), "--json"]);
    let of_secret = printed_json(&shown);
    assert_eq!(
        (&of_secret["public_key"], &of_secret["secret"]),
        (&made["public_key"], &true.into())
    );

    let text = fs::read_to_string(&secret).unwrap();
    let own = text.split('"').nth(3).unwrap();
    assert_eq!(own.len(), 40);
    for output in [run(&["key", "show", secret.to_str().unwrap()]), shown] {
        assert!(!printed(&output).contains(own), "{}", stdout(&output));
    }
    assert!(!fs::read_to_string(&public).unwrap().contains(own));
}

#[test]
fn two_pairs_are_never_the_same() {
    let key = |name: &str| {
        let directory = tempdir().unwrap();
        let out = directory.path().to_str().unwrap();
        printed_json(&run(&["keygen", name, "--node", "--out", out, "--json"]))["public_key"]
            .clone()
    };
    assert_ne!(key("node-1"), key("node-1"));
}

#[test]
fn file_that_is_there_is_never_overwritten() {
    for extension in ["key", "key_secret"] {
        let directory = tempdir().unwrap();
        let file = directory.path().join(format!("a.{extension}"));
        fs::write(&file, "mine").unwrap();

        let output = run(&["keygen", "a", "--out", directory.path().to_str().unwrap()]);

        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("is there already"), "{}", stderr(&output));
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn wrong_names_files_and_folders_end_with_2_and_a_reason() {
    let directory = tempdir().unwrap();
    let (out, file) = (directory.path().to_str().unwrap(), directory.path().join("x.key"));
    fs::write(&file, "nothing").unwrap();
    for (args, reason) in [
        (&["keygen", "a/b", "--out", out][..], "\"a/b\" is no name: use 1 to 63 letters"),
        (&["keygen", "a b", "--node", "--out", out], "\"a b\" is no name"),
        (&["keygen"], "<NAME>"),
        (&["key", "show", file.to_str().unwrap()], "x.key: there is no `public-key"),
        (&["identity", "check", out], "x.key: there is no `public-key"),
        (&["identity", "check", "/no/such"], "/no/such can not be read"),
    ] {
        let output = run(args);

        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{args:?}: {}", stderr(&output));
    }
    let missing = run(&["key", "show", "/no/such.key"]);
    assert_eq!(missing.status.code(), Some(1), "{}", stderr(&missing));
}

#[test]
fn folder_of_identities_is_shown_in_80_columns_and_as_json() {
    let directory = tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let keys = tempdir().unwrap();
    let made =
        printed_json(&run(&["keygen", "w", "--out", keys.path().to_str().unwrap(), "--json"]));
    let public = made["public_key"].as_str().unwrap();
    fs::copy(keys.path().join("w.key"), directory.path().join("bare.key")).unwrap();
    let long = "a-service-with-a-name-that-takes-much-of-a-line.*";
    let text =
        format!("call = [\"{long}\", \"x\"]\nregister = [\"audit\"]\nmmi = [\"directory\"]\n");
    fs::write(directory.path().join("billing.toml"), text).unwrap();
    fs::write(directory.path().join("anonymous.toml"), "call = [\"echo\"]").unwrap();

    let table = run(&["identity", "check", out]);
    let page = printed_json(&run(&["identity", "check", out, "--json"]));

    let lines: Vec<_> = printed(&table).lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[1]), ["bare", &public[..8], "-", "-", "-"]);
    assert_eq!(words(lines[3])[3..], ["-", "echo", "-", "-"]);
    assert!(lines.last().unwrap().starts_with("2 identities, digest "), "{lines:#?}");
    assert_eq!(page["identities"][1]["call"], serde_json::json!(["x", long]));
    assert_eq!(page["identities"][1]["mmi"], serde_json::json!(["directory"]));
    assert_eq!(page["anonymous"]["call"], serde_json::json!(["echo"]));
}

#[test]
fn manifests_have_a_key_for_clients_and_one_for_each_node() {
    let output = run(&["keygen", "--kubernetes"]);

    let documents: Vec<serde_json::Value> = printed(&output)
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    let described: Vec<_> = documents
        .iter()
        .map(|document| {
            let field = if document["kind"] == "Secret" { "stringData" } else { "data" };
            let files = document[field].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            (document["metadata"]["name"].as_str().unwrap(), files.join(" "))
        })
        .collect();
    let nodes = |extension: &str| {
        let names: Vec<_> =
            (0..3).map(|number| format!("majordomo-{number}.{extension}")).collect();
        names.join(" ")
    };
    assert_eq!(
        described,
        [
            ("majordomo-clients-key", "clients.key clients.key_secret".to_owned()),
            ("majordomo-node-keys", nodes("key_secret")),
            ("majordomo-node-public-keys", nodes("key")),
        ]
    );
    // Each is a key file, and the public keys are those of the secret ones.
    let directory = tempdir().unwrap();
    let public_key = |text: &serde_json::Value| {
        let file = directory.path().join("k");
        fs::write(&file, text.as_str().unwrap()).unwrap();
        printed_json(&run(&["key", "show", file.to_str().unwrap(), "--json"]))["public_key"].clone()
    };
    let mut all = Vec::new();
    for number in 0..3 {
        let secret = &documents[1]["stringData"][format!("majordomo-{number}.key_secret")];
        let public = &documents[2]["data"][format!("majordomo-{number}.key")];
        assert_eq!(public_key(secret), public_key(public));
        all.push(public_key(public).to_string());
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3);
}
