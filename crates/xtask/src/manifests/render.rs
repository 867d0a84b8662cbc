//! What Kustomize makes of the files.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use super::{CONFIGURATION, FOLDER, read, tools, write};
use crate::{run::Failure, say, workspace::Workspace};

/// The committed render, for those who have no Kustomize.
const COMMITTED: &str = "deploy/kubernetes/majordomo.yaml";
/// What is rendered below the folder; the first one is committed.
const KUSTOMIZATIONS: [&str; 7] = [
    ".",
    "overlays/dev",
    "overlays/prod",
    "overlays/canary",
    "overlays/outside",
    "examples/worker/hpa",
    "examples/worker/keda",
];
/// Files whose objects the committed render consists of.
const BASE: [&str; 5] = [
    "service-account.yaml",
    "services.yaml",
    "stateful-set.yaml",
    "disruption-budget.yaml",
    "network-policy.yaml",
];
/// The first version of kubectl, 1.x, whose Kustomize renders as those after it do.
const KUBECTL_MINOR_MIN: u32 = 27;

/// One render, in memory and on disk.
#[derive(Debug)]
pub(super) struct Render {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Renders everything; without kubectl only the committed file is there to be looked at.
pub(super) fn all(workspace: &Workspace) -> Result<Vec<Render>, Failure> {
    let committed = read(&workspace.root, COMMITTED)?;
    agrees_with_base(workspace, &committed)?;
    if !has_kubectl() {
        say::line(&format!(
            "    not rendered, only {COMMITTED} is looked at: no kubectl 1.{KUBECTL_MINOR_MIN} or newer"
        ));
        let path = workspace.root.join(COMMITTED);
        return Ok(vec![Render { name: COMMITTED, path, text: committed }]);
    }
    let renders: Result<Vec<Render>, Failure> =
        KUSTOMIZATIONS.iter().map(|name| render(workspace, name)).collect();
    let renders = renders?;
    if renders.first().is_none_or(|render| render.text != committed) {
        return Err(Failure::new(format!(
            "{COMMITTED} is old; please run: kubectl kustomize {FOLDER} > {COMMITTED}"
        )));
    }
    Ok(renders)
}

fn render(workspace: &Workspace, name: &'static str) -> Result<Render, Failure> {
    let mut kustomize = Command::new("kubectl");
    let folder = workspace.root.join(FOLDER).join(name);
    let text = tools::heard(kustomize.arg("kustomize").arg(folder))?;
    let file = format!("{}.yaml", name.replace(['/', '.'], "-"));
    let path = tools::work_folder(workspace)?.join(file);
    write(&path, &text)?;
    Ok(Render { name, path, text })
}

fn has_kubectl() -> bool {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    version.is_ok_and(|output| {
        let minor = minor_version(&String::from_utf8_lossy(&output.stdout));
        minor.is_some_and(|minor| minor >= KUBECTL_MINOR_MIN)
    })
}

/// `v1.32.4` is 32; old ones write it as a part of a longer line.
fn minor_version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("v1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What can be seen without Kustomize: the same objects, and the same configuration.
fn agrees_with_base(workspace: &Workspace, committed: &str) -> Result<(), Failure> {
    let mut wanted = BTreeSet::from([("ConfigMap".to_owned(), "majordomo".to_owned())]);
    for file in BASE {
        wanted.extend(objects(&read(&workspace.root, &format!("{FOLDER}/base/{file}"))?));
    }
    // Kustomize adds a hash to this one name.
    let rendered: BTreeSet<(String, String)> = objects(committed)
        .into_iter()
        .map(|(kind, name)| match name.strip_prefix("majordomo-") {
            Some(_) if kind == "ConfigMap" => (kind, "majordomo".to_owned()),
            _ => (kind, name),
        })
        .collect();
    if wanted != rendered {
        return Err(Failure::new(format!("{COMMITTED} has {rendered:?}, not {wanted:?}")));
    }
    let configuration = read(&workspace.root, CONFIGURATION)?;
    let lacks = |line: &&str| !committed.contains(&format!("    {line}\n"));
    match configuration.lines().filter(|line| !line.is_empty()).find(lacks) {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!("{COMMITTED} lacks `{line}` of {CONFIGURATION}"))),
    }
}

/// Kind and name of every object.
pub(super) fn objects(text: &str) -> BTreeSet<(String, String)> {
    let documents = text.split("\n---\n");
    documents
        .filter_map(|document| {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: "))?;
            let (_, metadata) = document.split_once("\nmetadata:\n")?;
            let name = metadata.lines().find_map(|line| line.strip_prefix("  name: "))?;
            Some((kind.to_owned(), name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_their_metadata() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    name: x\n  name: mdp\n\
                    spec:\n  name: y\n---\nkind: Pod\nmetadata:\n  name: p\n";
        let named = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        assert_eq!(objects(text), BTreeSet::from([named("Service", "mdp"), named("Pod", "p")]));
    }

    #[test]
    fn versions_of_kubectl_are_read_in_both_forms() {
        assert_eq!(minor_version("Client Version: v1.32.4\nKustomize Version: v5.5.0"), Some(32));
        assert_eq!(minor_version(r#"version.Info{Major:"1", GitVersion:"v1.20.2"}"#), Some(20));
        assert_eq!(minor_version("error"), None);
    }
}
