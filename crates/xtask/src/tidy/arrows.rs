//! Which crate may use which. `docs/architecture.md` has the picture.

use super::{Tree, Violation};
use crate::toml::{self, Entry};

/// What one member of the workspace may name as a dependency.
struct Member {
    name: &'static str,
    /// Crates of this workspace.
    ours: &'static [&'static str],
    outside: Outside,
}

/// Crates of others.
enum Outside {
    /// These and no more: the crate is pure.
    Only(&'static [&'static str]),
    /// All but those that only other members may name.
    Any,
}

const MEMBERS: &[Member] = &[
    Member {
        name: "mdp-wire",
        ours: &[],
        outside: Outside::Only(&["bincode", "crc32fast", "serde", "smallvec", "thiserror"]),
    },
    Member {
        name: "mdp-transport",
        ours: &["mdp-mutants", "mdp-wire"],
        outside: Outside::Only(&[
            "orion",
            "poly1305",
            "salsa20",
            "smallvec",
            "subtle",
            "thiserror",
            "x25519-dalek",
            "zeroize",
        ]),
    },
    Member { name: "mdp-mutants", ours: &[], outside: Outside::Only(&[]) },
    Member { name: "mdp-histogram", ours: &[], outside: Outside::Only(&[]) },
    Member { name: "mdp-rate-limiter", ours: &[], outside: Outside::Only(&[]) },
    Member { name: "mdp-history", ours: &[], outside: Outside::Only(&[]) },
    Member {
        name: "mdp-catalog",
        ours: &["mdp-mutants", "mdp-wire"],
        outside: Outside::Only(&["serde", "thiserror"]),
    },
    Member {
        name: "mdp-broker",
        ours: &["mdp-catalog", "mdp-histogram", "mdp-mutants", "mdp-wire"],
        outside: Outside::Only(&["rand_chacha", "slab", "thiserror"]),
    },
    Member {
        name: "mdp-raft",
        ours: &["mdp-catalog", "mdp-histogram", "mdp-mutants", "mdp-rate-limiter", "mdp-wire"],
        outside: Outside::Any,
    },
    Member {
        name: "mdp-replica",
        ours: &["mdp-broker", "mdp-catalog", "mdp-mutants", "mdp-raft", "mdp-wire"],
        outside: Outside::Only(&["tokio", "tracing"]),
    },
    Member {
        name: "mdp-core",
        ours: &[
            "mdp-broker",
            "mdp-catalog",
            "mdp-mutants",
            "mdp-raft",
            "mdp-replica",
            "mdp-transport",
            "mdp-wire",
        ],
        outside: Outside::Only(&["serde", "serde_json", "thiserror", "tokio", "tracing"]),
    },
    Member { name: "mdp-client", ours: &["mdp-transport", "mdp-wire"], outside: Outside::Any },
    Member {
        name: "mdp-node",
        ours: &[
            "mdp-broker",
            "mdp-catalog",
            "mdp-core",
            "mdp-histogram",
            "mdp-raft",
            "mdp-rate-limiter",
            "mdp-replica",
            "mdp-transport",
            "mdp-wire",
        ],
        outside: Outside::Any,
    },
    Member {
        name: "mdp-bench",
        ours: &["mdp-broker", "mdp-catalog", "mdp-transport", "mdp-wire"],
        outside: Outside::Any,
    },
    Member {
        name: "majordomo",
        ours: &["mdp-bench", "mdp-broker", "mdp-catalog", "mdp-client", "mdp-node", "mdp-wire"],
        outside: Outside::Any,
    },
    Member {
        name: "mdp-sim",
        ours: &[
            "mdp-broker",
            "mdp-catalog",
            "mdp-core",
            "mdp-history",
            "mdp-mutants",
            "mdp-raft",
            "mdp-replica",
            "mdp-transport",
            "mdp-wire",
        ],
        outside: Outside::Any,
    },
    Member {
        name: "cluster-tests",
        ours: &["mdp-client", "mdp-history", "mdp-wire"],
        outside: Outside::Any,
    },
    Member {
        name: "kubernetes-tests",
        ours: &["cluster-tests", "mdp-client"],
        outside: Outside::Any,
    },
    Member { name: "xtask", ours: &[], outside: Outside::Only(&[]) },
];

/// Outside crates that only some members may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("bincode", &["mdp-wire"]),
    // Simulated machines are runtimes of openraft.
    ("openraft-rt", &["mdp-raft", "mdp-sim"]),
    ("openraft", &["mdp-raft"]),
    ("redb", &["mdp-raft"]),
    (
        "zmq",
        &["cluster-tests", "majordomo", "mdp-bench", "mdp-client", "mdp-node", "mdp-transport"],
    ),
    ("zmq-sys", &["mdp-bench"]),
    // `mdp-core` in its tests alone, for the queue of news.
    (
        "tokio",
        &["majordomo", "mdp-client", "mdp-core", "mdp-node", "mdp-raft", "mdp-replica", "mdp-sim"],
    ),
    ("config", &["majordomo"]),
    ("clap", &["majordomo", "mdp-bench"]),
    ("anyhow", &["majordomo", "mdp-bench"]),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        let is_member = path.starts_with("crates/") && path.split('/').count() == 3;
        if is_member || path == "tests/Cargo.toml" {
            violations.extend(
                check_member(path, text)
                    .into_iter()
                    .map(|(line, rule)| Violation::new(path, line, rule)),
            );
        }
    }
    violations
}

fn check_member(path: &str, text: &str) -> Vec<(usize, String)> {
    let entries = toml::entries(text);
    let name = entries
        .iter()
        .find(|entry| entry.path() == "package.name")
        .map_or("", |entry| entry.value.trim_matches('"'));
    let Some(member) = MEMBERS.iter().find(|member| member.name == name) else {
        return vec![(1, format!("`{name}` is not in xtask's table of crates (tidy/arrows.rs)"))];
    };
    let mut wrong = Vec::new();
    if path != format!("crates/{name}/Cargo.toml") && name != "cluster-tests" {
        wrong.push((1, format!("folder and crate differ: move it to crates/{name}")));
    }
    if !entries.iter().any(|entry| entry.path() == "lints.workspace" && entry.value == "true") {
        wrong.push((1, "`[lints] workspace = true` is missing".to_owned()));
    }
    for entry in entries.iter().filter(|entry| is_dependency(entry)) {
        wrong.extend(check_dependency(member, entry).map(|rule| (entry.line, rule)));
    }
    wrong
}

/// Also those of `[target.'cfg(..)'.dependencies]`.
fn is_dependency(entry: &Entry<'_>) -> bool {
    entry.table.ends_with("dependencies")
}

fn check_dependency(member: &Member, entry: &Entry<'_>) -> Option<String> {
    let dependency = entry.key.split('.').next().unwrap_or(entry.key);
    let by_workspace =
        entry.key.ends_with(".workspace") || entry.value.contains("workspace = true");
    if !by_workspace {
        return Some(format!("`{dependency}`: its version belongs into [workspace.dependencies]"));
    }
    if MEMBERS.iter().any(|member| member.name == dependency) {
        return (!member.ours.contains(&dependency) && dependency != member.name).then(|| {
            format!(
                "`{}` may not use `{dependency}`: no such arrow in docs/architecture.md",
                member.name
            )
        });
    }
    let users =
        RESERVED.iter().find(|(name, _)| is_family(dependency, name)).map(|(_, users)| users);
    if let Some(users) = users.filter(|users| !users.contains(&member.name)) {
        return Some(format!("only {} may name `{dependency}`", users.join(", ")));
    }
    match member.outside {
        Outside::Only(allowed)
            if !entry.table.contains("dev-dependencies") && !allowed.contains(&dependency) =>
        {
            Some(format!("`{}` is pure and does without `{dependency}`", member.name))
        }
        Outside::Only(_) | Outside::Any => None,
    }
}

/// `openraft-macros` is reserved where `openraft` is; `zmq-sys` has its own rule.
fn is_family(dependency: &str, name: &str) -> bool {
    dependency == name || (name.starts_with("openraft") && dependency.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(name: &str, dependencies: &str) -> Vec<(usize, String)> {
        let text = format!(
            "[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}"
        );
        check_member(&format!("crates/{name}/Cargo.toml"), &text)
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(violations("mdp-broker", "mdp-wire.workspace = true"), []);
        let upwards = violations("mdp-wire", "mdp-broker.workspace = true");
        assert_eq!(upwards.len(), 1);
        assert_eq!(upwards[0].0, 6);
    }

    #[test]
    fn sockets_are_named_only_where_they_may_be() {
        assert_eq!(violations("mdp-node", "zmq.workspace = true"), []);
        assert_eq!(violations("mdp-catalog", "zmq = { workspace = true }").len(), 1);
        assert_eq!(violations("mdp-node", "openraft-rt.workspace = true").len(), 1);
        assert_eq!(violations("mdp-sim", "openraft-rt-tokio.workspace = true"), []);
        assert_eq!(violations("mdp-sim", "openraft.workspace = true").len(), 1);
    }

    #[test]
    fn pure_crate_names_only_what_its_row_allows() {
        assert_eq!(violations("mdp-wire", "smallvec.workspace = true"), []);
        assert_eq!(violations("mdp-wire", "libc.workspace = true").len(), 1);
    }

    #[test]
    fn versions_stand_in_the_workspace() {
        assert_eq!(violations("mdp-client", "thiserror = \"2\"").len(), 1);
    }

    #[test]
    fn unknown_member_and_missing_lints_are_found() {
        assert_eq!(violations("mdp-util", "").len(), 1);
        let text = "[package]\nname = \"mdp-wire\"\n";
        assert_eq!(check_member("crates/mdp-wire/Cargo.toml", text).len(), 1);
    }
}
