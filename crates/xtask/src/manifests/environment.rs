//! The environment that Kubernetes gives to the pods of a StatefulSet.

use std::collections::BTreeMap;

use crate::run::Failure;

/// What the fields are that a variable may take its value from. The namespace is an example.
const NAMESPACE: &str = "mdp";
/// As many as form the cluster.
const REPLICAS: usize = 3;

/// The variables of each pod of the StatefulSet in a render; of none if it has no StatefulSet.
pub(super) fn pods(render: &str) -> Result<Vec<BTreeMap<String, String>>, Failure> {
    let mut documents = render.split("\n---\n");
    let Some(set) = documents.find(|text| text.contains("\nkind: StatefulSet\n")) else {
        return Ok(Vec::new());
    };
    (0..REPLICAS).map(|ordinal| variables(set, &format!("majordomo-{ordinal}"))).collect()
}

/// Reads the one list `env:`, as Kustomize writes it: one variable after the other, each with a
/// `value:` or a `fieldPath:` in one line.
fn variables(set: &str, pod: &str) -> Result<BTreeMap<String, String>, Failure> {
    let (_, list) = set
        .split_once("\n        env:\n")
        .ok_or_else(|| Failure::new("the StatefulSet has no environment"))?;
    let (mut variables, mut name) = (BTreeMap::new(), "");
    for line in list.lines().take_while(|line| is_in_list(line)) {
        let line = line.trim();
        if let Some(next) = line.strip_prefix("- name: ") {
            name = next;
        } else if let Some(value) = line.strip_prefix("value: ") {
            let value = expanded(value.trim_matches(['"', '\'']), &variables)?;
            variables.insert(name.to_owned(), value);
        } else if let Some(path) = line.strip_prefix("fieldPath: ") {
            variables.insert(name.to_owned(), field(path, pod)?);
        }
    }
    Ok(variables)
}

fn is_in_list(line: &str) -> bool {
    line.starts_with("        - ") || line.starts_with("          ")
}

fn field(path: &str, pod: &str) -> Result<String, Failure> {
    match path {
        "metadata.name" => Ok(pod.to_owned()),
        "metadata.namespace" => Ok(NAMESPACE.to_owned()),
        other => Err(Failure::new(format!("`{other}` is not known here: teach environment.rs"))),
    }
}

/// Kubernetes expands `$(NAME)` of variables that stand before; others it leaves as they are.
fn expanded(value: &str, before: &BTreeMap<String, String>) -> Result<String, Failure> {
    let known = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("$({name})"), value)
    };
    let text = before.iter().fold(value.to_owned(), known);
    if text.contains("$(") {
        return Err(Failure::new(format!("`{text}`: no such variable stands before it")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "apiVersion: apps/v1\nkind: StatefulSet\nspec:\n      containers:\n      \
                       - args: []\n        env:\n        - name: POD\n          valueFrom:\n            \
                       fieldRef:\n              fieldPath: metadata.name\n        - name: AT\n          \
                       value: $(POD).peers\n        image: x\n        - name: no\n          value: no\n";

    #[test]
    fn variables_see_those_before_them() {
        let pods = pods(SET).unwrap();

        assert_eq!(pods.len(), REPLICAS);
        assert_eq!(pods[1].get("AT").unwrap(), "majordomo-1.peers");
        assert_eq!(pods[1].len(), 2);
    }

    #[test]
    fn variable_that_stands_before_the_one_that_it_names_is_refused() {
        let failure = pods(&SET.replace("- name: POD", "- name: POT")).unwrap_err().to_string();
        assert!(failure.contains("$(POD).peers"), "{failure}");
    }

    #[test]
    fn render_without_a_stateful_set_has_no_pods() {
        assert_eq!(pods("kind: Deployment\n").unwrap(), []);
    }
}
