//! Which fields of the manifests mean something here. Any other one is an error.

use serde_json::Value;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treated {
    /// Something here does what it says.
    Enacted,
    /// It is compared with other fields, or must have one value.
    Checked,
    /// It means nothing on one machine without a cluster: why.
    SetAside(&'static str),
}

use Treated::{Checked, Enacted, SetAside};

const POD: &str = "spec.template.spec.";
const CONTAINER: &str = "spec.template.spec.containers[].";

/// `[]` stands for each item of a list, `*` for each key of a map.
const OF_ALL: &[(&str, Treated)] = &[
    ("apiVersion", Checked),
    ("kind", Checked),
    ("metadata.name", Enacted),
    ("metadata.namespace", Enacted),
    ("metadata.labels.*", Checked),
];

const OF_STATEFUL_SET: &[(&str, Treated)] = &[
    ("spec.serviceName", Checked),
    ("spec.replicas", Enacted),
    ("spec.podManagementPolicy", Checked),
    ("spec.updateStrategy.type", Checked),
    ("spec.updateStrategy.rollingUpdate.partition", Enacted),
    ("spec.minReadySeconds", Enacted),
    ("spec.revisionHistoryLimit", SetAside("all revisions are kept")),
    ("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", Checked),
    ("spec.persistentVolumeClaimRetentionPolicy.whenScaled", Enacted),
    ("spec.selector.matchLabels.*", Checked),
    ("spec.template.metadata.labels.*", Checked),
    ("spec.template.metadata.annotations.*", SetAside("for people")),
    ("spec.volumeClaimTemplates[].metadata.name", Enacted),
    ("spec.volumeClaimTemplates[].metadata.labels.*", SetAside("for people")),
    ("spec.volumeClaimTemplates[].spec.accessModes[]", Checked),
    ("spec.volumeClaimTemplates[].spec.resources.requests.storage", SetAside("one disk")),
];

/// Below [`POD`].
const OF_POD: &[(&str, Treated)] = &[
    ("serviceAccountName", Checked),
    ("automountServiceAccountToken", Checked),
    ("enableServiceLinks", Checked),
    ("terminationGracePeriodSeconds", Enacted),
    ("securityContext.runAsNonRoot", Checked),
    ("securityContext.runAsUser", Enacted),
    ("securityContext.runAsGroup", Enacted),
    ("securityContext.fsGroup", SetAside("a volume takes the owner of the image's folder")),
    ("securityContext.fsGroupChangePolicy", SetAside("as fsGroup")),
    ("securityContext.seccompProfile.type", Checked),
    ("topologySpreadConstraints[].topologyKey", SetAside("one machine")),
    ("topologySpreadConstraints[].maxSkew", SetAside("one machine")),
    ("topologySpreadConstraints[].whenUnsatisfiable", SetAside("one machine")),
    ("topologySpreadConstraints[].labelSelector.matchLabels.*", Checked),
    ("volumes[].name", Enacted),
    ("volumes[].configMap.name", Enacted),
    ("volumes[].secret.secretName", Enacted),
    ("readinessGates[].conditionType", Enacted),
];

/// Below [`CONTAINER`].
const OF_CONTAINER: &[(&str, Treated)] = &[
    ("name", Checked),
    ("image", Enacted),
    ("imagePullPolicy", Checked),
    ("args[]", Enacted),
    ("lifecycle.preStop.exec.command[]", Enacted),
    ("lifecycle.preStop.sleep.seconds", Enacted),
    ("env[].name", Enacted),
    ("env[].value", Enacted),
    ("env[].valueFrom.fieldRef.fieldPath", Enacted),
    ("env[].valueFrom.fieldRef.apiVersion", Checked),
    ("ports[].name", Enacted),
    ("ports[].containerPort", Enacted),
    ("resources.requests.*", SetAside("no scheduler")),
    ("resources.limits.memory", Enacted),
    ("securityContext.allowPrivilegeEscalation", Enacted),
    ("securityContext.readOnlyRootFilesystem", Enacted),
    ("securityContext.capabilities.drop[]", Enacted),
    ("volumeMounts[].name", Enacted),
    ("volumeMounts[].mountPath", Enacted),
    ("volumeMounts[].readOnly", Enacted),
];

/// Below each probe of a container.
const OF_PROBE: &[(&str, Treated)] = &[
    ("httpGet.path", Enacted),
    ("httpGet.port", Enacted),
    ("periodSeconds", Enacted),
    ("timeoutSeconds", Enacted),
    ("failureThreshold", Enacted),
    ("terminationGracePeriodSeconds", Enacted),
];

const PROBES: [&str; 3] = ["startupProbe.", "livenessProbe.", "readinessProbe."];

const OF_SERVICE: &[(&str, Treated)] = &[
    ("spec.clusterIP", Enacted),
    ("spec.ipFamilyPolicy", SetAside("the networks of the engine have IPv4 alone")),
    ("spec.publishNotReadyAddresses", Checked),
    ("spec.selector.*", Checked),
    ("spec.ports[].name", Checked),
    ("spec.ports[].port", Enacted),
    ("spec.ports[].targetPort", Enacted),
];

const OF_BUDGET: &[(&str, Treated)] =
    &[("spec.maxUnavailable", Enacted), ("spec.selector.matchLabels.*", Checked)];

/// The fields of an object that nothing here knows, by their paths.
pub(crate) fn unknown(kind: &str, object: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    // Policies of networks are for a network plugin, and accounts for an API server.
    if !matches!(kind, "NetworkPolicy" | "ServiceAccount") {
        leaves(object, String::new(), &mut paths);
    }
    paths.retain(|path| !is_known(kind, path));
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn is_known(kind: &str, path: &str) -> bool {
    let has = |table: &[(&str, Treated)], path: &str| {
        table.iter().any(|(pattern, treated)| {
            let is_reasoned = !matches!(treated, SetAside(""));
            is_reasoned && matches(pattern, path)
        })
    };
    if has(OF_ALL, path) {
        return true;
    }
    match kind {
        "StatefulSet" => match path.strip_prefix(CONTAINER) {
            Some(path) => {
                let of_probe = PROBES.iter().find_map(|probe| path.strip_prefix(probe));
                of_probe.map_or_else(|| has(OF_CONTAINER, path), |path| has(OF_PROBE, path))
            }
            None => match path.strip_prefix(POD) {
                Some(path) => has(OF_POD, path),
                None => has(OF_STATEFUL_SET, path),
            },
        },
        "Service" => has(OF_SERVICE, path),
        "PodDisruptionBudget" => has(OF_BUDGET, path),
        "ConfigMap" => path.starts_with("data."),
        "Secret" => path == "type" || path.starts_with("data.") || path.starts_with("stringData."),
        _ => false,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(before) => path.strip_prefix(before).is_some_and(|key| !key.is_empty()),
        None => pattern == path,
    }
}

/// The paths of all values that have nothing in them.
fn leaves(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, format!("{path}{dot}{key}"), paths);
            }
        }
        Value::Array(items) => {
            for item in items {
                leaves(item, format!("{path}[]"), paths);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => paths.push(path),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_that_nothing_enacts_is_named_with_its_path() {
        let container = json!({
            "name": "majordomo", "image": "i", "lifecycle": { "preStop": { "tcpSocket": { "port": 1 } } },
            "livenessProbe": { "httpGet": { "path": "/", "port": 1 }, "initialDelaySeconds": 5 },
        });
        let set = json!({
            "kind": "StatefulSet", "metadata": { "labels": { "a.b/c": "d" } },
            "spec": { "ordinals": { "start": 1 }, "template": { "spec": {
                "hostNetwork": true, "containers": [container] } } },
        });
        assert_eq!(
            unknown("StatefulSet", &set),
            [
                "spec.ordinals.start",
                "spec.template.spec.containers[].lifecycle.preStop.tcpSocket.port",
                "spec.template.spec.containers[].livenessProbe.initialDelaySeconds",
                "spec.template.spec.hostNetwork",
            ]
        );
        let service = json!({ "spec": { "externalTrafficPolicy": "Local" } });
        assert_eq!(unknown("Service", &service), ["spec.externalTrafficPolicy"]);
        assert_eq!(unknown("Job", &json!({ "spec": { "a": 1 } })), ["spec.a"]);
    }
}
