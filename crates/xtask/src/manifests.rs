//! `manifests`: whether deploy/kubernetes is what Kubernetes, Prometheus and the program understand.

mod environment;
mod hazards;
mod live;
mod names;
mod render;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    install::{self, Need},
    run::{self, Failure},
    say,
    stage::Stages,
    suite,
    workspace::Workspace,
};
use render::Render;

/// Everything about Kubernetes.
const FOLDER: &str = "deploy/kubernetes";
/// What every YAML file below `deploy` is held against.
const STYLE: &str = "deploy/kubernetes/.yamllint";
const CONFIGURATION: &str = "deploy/kubernetes/base/majordomo.toml";
const RULES: &str = "deploy/kubernetes/components/monitoring/rules.yaml";
const RULES_TEST: &str = "deploy/kubernetes/components/monitoring/rules-test.yaml";
/// Where each alert is explained.
const MANUAL: &str = "docs/operating.md";
/// What an operator may have brought; everything else must be known to Kubernetes itself.
const CUSTOM_KINDS: [&str; 3] = ["PodMonitor", "PrometheusRule", "ScaledObject"];
/// The oldest version that is supported, and the newest that there are schemas of.
const KUBERNETES_VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// Each with its reason: no limit of CPU, since a throttled node misses elections; a pull policy
/// that suits images which were loaded; a tag and no digest, for the image is in no registry; and
/// an example of a worker that stands for any.
const CHECKOV_SKIPPED: &str =
    "CKV_K8S_8,CKV_K8S_9,CKV_K8S_11,CKV_K8S_15,CKV_K8S_21,CKV_K8S_43,CKV2_K8S_6";

/// Everything, with the program and without.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq])?;
    let mut stages = Stages::default();
    stages.run("manifests", || check(workspace));
    if stages.run("build", || suite::build(workspace, &["majordomo"])) {
        stages.run("manifests and program", || with_program(workspace));
    }
    stages.finish()
}

/// What needs no program; a part of `check`.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Python])?;
    let mut lint = tools::python_tool(workspace, "yamllint")?;
    lint.args(["--strict", "--config-file", STYLE, "deploy"]).current_dir(&workspace.root);
    run::run(&mut lint)?;
    let renders = render::all(workspace)?;
    KUBERNETES_VERSIONS.iter().try_for_each(|version| validate(workspace, &renders, version))?;
    hazards::check(&workspace.root, &renders)?;
    rules(workspace)?;
    say::line(&format!("    {} renders, and the rules, are right", renders.len()));
    Ok(())
}

/// What asks the program; a part of `test`.
pub(crate) fn with_program(workspace: &Workspace) -> Result<(), Failure> {
    let renders = render::all(workspace)?;
    renders.iter().try_for_each(|render| configurations(workspace, render))?;
    let known = live::metrics(workspace)?;
    let unknown = names::unknown(&workspace.root.join(FOLDER), &known)?;
    if unknown.is_empty() {
        say::line(&format!("    every metric is one of the {} that nodes show", known.len()));
        return Ok(());
    }
    Err(Failure::new(format!("no node shows these metrics: {}", unknown.join(", "))))
}

/// The folder of Prometheus and promtool; `None`: they are in the path.
pub(crate) fn prometheus(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    tools::prometheus(workspace)
}

/// `soak manifests`: another opinion, which is slow to install.
pub(crate) fn second_opinion(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Python])?;
    for render in render::all(workspace)? {
        let mut checkov = tools::checkov(workspace)?;
        checkov.args(["--skip-download", "--framework", "kubernetes", "--compact", "--quiet"]);
        run::run(checkov.args(["--skip-check", CHECKOV_SKIPPED, "--file"]).arg(&render.path))?;
    }
    Ok(())
}

/// Holds every field against the schemas of one version of Kubernetes.
fn validate(workspace: &Workspace, renders: &[Render], version: &str) -> Result<(), Failure> {
    let mut tool = tools::python_tool(workspace, "kubernetes-validate")?;
    tool.args(["--strict", "--quiet", "-k", version]);
    let said = tools::heard(tool.args(renders.iter().map(|render| &render.path)))?;
    // A kind that it does not know is only a warning to it, but may be one that is written wrong.
    let is_custom = |line: &&str| CUSTOM_KINDS.iter().any(|kind| line.contains(kind));
    match said.lines().find(|line| !is_custom(line)) {
        None => Ok(()),
        Some(line) => Err(Failure::new(line.to_owned())),
    }
}

/// The alerts are understood by Prometheus, come when they should, and are explained.
fn rules(workspace: &Workspace) -> Result<(), Failure> {
    let (rules, test) = (read(&workspace.root, RULES)?, read(&workspace.root, RULES_TEST)?);
    let manual = read(&workspace.root, MANUAL)?;
    for alert in names::alerts(&rules) {
        if !test.contains(&format!("alertname: {alert}\n    exp_alerts:")) {
            return Err(Failure::new(format!("{RULES_TEST} never sees {alert}")));
        }
        if !test.contains(&format!("alertname: {alert}}}")) {
            return Err(Failure::new(format!("{RULES_TEST} never sees that {alert} is silent")));
        }
        if !manual.contains(&format!("| `{alert}` |")) {
            return Err(Failure::new(format!("{MANUAL} does not say what to do at {alert}")));
        }
    }
    let folder = tools::work_folder(workspace)?;
    write(&folder.join("groups.yaml"), &names::groups(&rules)?)?;
    write(&folder.join("rules-test.yaml"), &test)?;
    let promtool = tools::promtool(workspace)?;
    for arguments in [["check", "rules", "groups.yaml"], ["test", "rules", "rules-test.yaml"]] {
        tools::heard(Command::new(&promtool).args(arguments).current_dir(&folder))?;
    }
    Ok(())
}

/// Lets the program read what each pod would give it.
fn configurations(workspace: &Workspace, render: &Render) -> Result<(), Failure> {
    for pod in environment::pods(&render.text)? {
        let mut serve = Command::new(workspace.release("majordomo"));
        serve.args(["serve", "--check", "--config", CONFIGURATION]).current_dir(&workspace.root);
        for (name, value) in pod {
            serve.env(name, value);
        }
        tools::heard(&mut serve)
            .map_err(|failure| Failure::new(format!("{}: {failure}", render.name)))?;
    }
    Ok(())
}

fn read(root: &Path, path: &str) -> Result<String, Failure> {
    fs::read_to_string(root.join(path)).map_err(|error| Failure::new(format!("{path}: {error}")))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
