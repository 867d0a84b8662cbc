//! The keys of a new cluster as manifests: what every pod may read, and what one pod may.

use mdp_node::KeyFile;

/// The key of the cluster towards clients and workers.
const CLIENTS: &str = "majordomo-clients-key";
/// The secret keys of all nodes; each pod mounts the one that has its name (`subPathExpr`).
const NODES: &str = "majordomo-node-keys";
/// The public keys of all nodes.
const PUBLIC: &str = "majordomo-node-public-keys";

/// Two Secrets and a ConfigMap.
pub(super) fn manifests(nodes: u8) -> anyhow::Result<String> {
    let clients = super::new_secret()?;
    let name = "majordomo";
    let mut secrets = String::new();
    let mut public = String::new();
    for number in 0..nodes {
        let node = format!("{name}-{number}");
        let secret = super::new_secret()?;
        let text = KeyFile::secret_text(&node, &secret);
        secrets.push_str(&entry(&format!("{node}.key_secret"), &text));
        let text = KeyFile::public_text(&node, &secret.public());
        public.push_str(&entry(&format!("{node}.key"), &text));
    }
    let clients_secret = entry("clients.key_secret", &KeyFile::secret_text(name, &clients));
    let clients_public = entry("clients.key", &KeyFile::public_text(name, &clients.public()));
    let head = "# Keys of a new cluster. Who has the Secrets can pose as its nodes: keep this text out of \
                repositories,\n# or encrypt it first.\n";
    Ok(format!(
        "{head}{}---\n{}---\n{}",
        document("Secret", CLIENTS, "stringData", &(clients_public + &clients_secret)),
        document("Secret", NODES, "stringData", &secrets),
        document("ConfigMap", PUBLIC, "data", &public),
    ))
}

fn document(kind: &str, name: &str, field: &str, entries: &str) -> String {
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  labels:\n    \
         app.kubernetes.io/name: majordomo\n{field}:\n{entries}"
    )
}

/// A file, as a block that keeps its lines.
fn entry(file: &str, text: &str) -> String {
    let lines = text.lines().map(|line| format!("    {line}\n"));
    format!("  {file}: |\n{}", lines.collect::<String>())
}
