//! The rendered manifests as typed objects, checked against each other.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Secret, Service, Volume},
    policy::v1::PodDisruptionBudget,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::fields;

/// The manifests can not be enacted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// They are no YAML.
    #[error("the manifests are no YAML: {0}")]
    Yaml(String),
    /// An object has not the shape that Kubernetes gives it.
    #[error("{object}: {reason}")]
    Shape {
        /// Its kind and name.
        object: String,
        /// What serde says.
        reason: String,
    },
    /// Fields that nothing enacts: the driver would pass without them.
    #[error("{object} has fields that nothing here enacts: {}", fields.join(", "))]
    NotModelled {
        /// Its kind and name.
        object: String,
        /// Their paths.
        fields: Vec<String>,
    },
    /// Objects that do not fit each other, or a value that is not enacted.
    #[error("{0}")]
    Wrong(String),
}

/// The objects of one rendered file.
#[derive(Clone, Debug)]
pub struct Manifests {
    pub(crate) namespace: String,
    pub(crate) set: StatefulSet,
    /// The files of each ConfigMap and of each Secret, by the folder below which they stand.
    pub(crate) files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) services: Vec<Service>,
    pub(crate) budget: PodDisruptionBudget,
}

impl Manifests {
    /// Reads a rendered file.
    ///
    /// # Errors
    /// It can not be enacted as it stands.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|error| ManifestError::Yaml(error.to_string()))?;
        let (mut sets, mut budgets) = (Vec::new(), Vec::new());
        let (mut services, mut files) = (Vec::new(), BTreeMap::new());
        for object in objects {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("?");
            let kind = text("/kind").to_owned();
            let name = format!("{kind} {}", text("/metadata/name"));
            let unknown = fields::unknown(&kind, &object);
            if !unknown.is_empty() {
                return Err(ManifestError::NotModelled { object: name, fields: unknown });
            }
            match kind.as_str() {
                "StatefulSet" => sets.push(typed::<StatefulSet>(&name, object)?),
                "PodDisruptionBudget" => budgets.push(typed::<PodDisruptionBudget>(&name, object)?),
                "Service" => services.push(typed::<Service>(&name, object)?),
                "ConfigMap" => {
                    let map: ConfigMap = typed(&name, object)?;
                    let texts = map.data.unwrap_or_default().into_iter();
                    files.insert(
                        folder_of_config_map(&map.metadata.name.unwrap_or_default()),
                        texts.map(|(key, text)| (key, text.into_bytes())).collect(),
                    );
                }
                "Secret" => {
                    let secret: Secret = typed(&name, object)?;
                    let bytes = secret.data.unwrap_or_default().into_iter();
                    let texts = secret.string_data.unwrap_or_default().into_iter();
                    // Of one key, the text counts.
                    let both = bytes
                        .map(|(key, bytes)| (key, bytes.0))
                        .chain(texts.map(|(key, text)| (key, text.into_bytes())));
                    let name = secret.metadata.name.unwrap_or_default();
                    files.insert(folder_of_secret(&name), both.collect());
                }
                // Who may connect, and as whom: for a network plugin and an API server.
                "NetworkPolicy" | "ServiceAccount" | "Namespace" => {}
                other => return Err(wrong(format!("kind {other:?} is not enacted"))),
            }
        }
        let one = |what: &str| wrong(format!("there must be one {what}"));
        let (Some(set), 0) = (sets.pop(), sets.len()) else { return Err(one("StatefulSet")) };
        let (Some(budget), 0) = (budgets.pop(), budgets.len()) else {
            return Err(one("PodDisruptionBudget"));
        };
        let namespace = set.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let manifests = Self { namespace, set, files, services, budget };
        manifests.check()?;
        Ok(manifests)
    }

    /// What a server would not refuse, and what would not work all the same.
    fn check(&self) -> Result<(), ManifestError> {
        let spec = self.set.spec.as_ref().ok_or_else(|| wrong("the set has no spec".to_owned()))?;
        let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        let labels = labels.unwrap_or_default();
        let selects = |selector: Option<&BTreeMap<String, String>>| {
            selector.is_some_and(|selector| {
                !selector.is_empty()
                    && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            })
        };
        let mut selectors = vec![("the set's selector", spec.selector.match_labels.as_ref())];
        let budget = self.budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selectors.push(("the budget's selector", budget.and_then(|s| s.match_labels.as_ref())));
        for service in &self.services {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selectors.push(("a Service's selector", selector));
        }
        if let Some((whose, _)) = selectors.into_iter().find(|(_, selector)| !selects(*selector)) {
            return Err(wrong(format!("{whose} does not select the pods, which have {labels:?}")));
        }
        self.check_services()?;
        let pod = spec.template.spec.as_ref();
        let volumes = pod.and_then(|pod| pod.volumes.as_ref()).into_iter().flatten();
        let mut folders = volumes.filter_map(folder_of);
        if let Some(missing) = folders.find(|folder| !self.files.contains_key(folder)) {
            return Err(wrong(format!("a volume is of {missing}, which is not there")));
        }
        let security = pod.and_then(|pod| pod.security_context.as_ref());
        let is_rootless = security.is_some_and(|security| {
            security.run_as_non_root == Some(true) && security.run_as_user.is_some_and(|id| id > 0)
        });
        if !is_rootless {
            return Err(wrong(
                "runAsNonRoot needs a runAsUser that is a number above 0".to_owned(),
            ));
        }
        let policy = spec.pod_management_policy.as_deref();
        if policy != Some("Parallel") {
            return Err(wrong(format!(
                "podManagementPolicy {policy:?} is not enacted: Parallel is"
            )));
        }
        let strategy = spec.update_strategy.as_ref().and_then(|update| update.type_.as_deref());
        if strategy != Some("RollingUpdate") {
            return Err(wrong(format!("updateStrategy {strategy:?} is not enacted")));
        }
        Ok(())
    }

    fn check_services(&self) -> Result<(), ManifestError> {
        let governing = self.set.spec.as_ref().and_then(|spec| spec.service_name.clone());
        let find = |name: &str| {
            self.services.iter().find(|service| service.metadata.name.as_deref() == Some(name))
        };
        let governing = governing.unwrap_or_default();
        let spec = find(&governing).and_then(|service| service.spec.as_ref());
        let spec = spec.ok_or_else(|| wrong(format!("there is no Service {governing:?}")))?;
        if spec.cluster_ip.as_deref() != Some("None") {
            return Err(wrong(format!(
                "Service {governing:?} governs the set and is not headless"
            )));
        }
        // Else nodes do not find each other before they are ready, and are not ready before that.
        if spec.publish_not_ready_addresses != Some(true) {
            return Err(wrong(format!("Service {governing:?} hides pods that are not ready")));
        }
        Ok(())
    }

    /// The name of the set, which its pods' names begin with.
    pub(crate) fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or_default()
    }

    /// The Service for clients: the one that has an address.
    pub(crate) fn client_service(&self) -> Option<&Service> {
        self.services.iter().find(|service| {
            service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() != Some("None"))
        })
    }
}

/// Where the files of a volume stand, if they are those of an object.
pub(crate) fn folder_of(volume: &Volume) -> Option<String> {
    let map = volume.config_map.as_ref().map(|map| folder_of_config_map(&map.name));
    let secret = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref());
    map.or_else(|| secret.map(folder_of_secret))
}

fn folder_of_config_map(name: &str) -> String {
    format!("ConfigMap-{name}")
}

fn folder_of_secret(name: &str) -> String {
    format!("Secret-{name}")
}

fn typed<T: DeserializeOwned>(name: &str, object: Value) -> Result<T, ManifestError> {
    serde_json::from_value(object).map_err(|error| ManifestError::Shape {
        object: name.to_owned(),
        reason: error.to_string(),
    })
}

const fn wrong(text: String) -> ManifestError {
    ManifestError::Wrong(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = include_str!("../../../deploy/kubernetes/majordomo.yaml");

    #[test]
    fn rendered_manifests_are_enacted_to_the_last_field() {
        let manifests = Manifests::read(RENDERED).unwrap();
        assert_eq!((manifests.name(), manifests.services.len()), ("majordomo", 2));
        assert!(manifests.client_service().is_some() && manifests.files.len() == 1);
    }

    #[test]
    fn manifests_that_would_not_work_are_refused() {
        for (from, to, reason) in [
            ("serviceName: mdp-peers", "serviceName: peers", "no Service \"peers\""),
            ("clusterIP: None", "clusterIP: 10.0.0.1", "not headless"),
            ("publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "hides pods"),
            ("runAsUser: 65532", "runAsUser: 0", "runAsUser"),
            ("Parallel", "OrderedReady", "not enacted: Parallel is"),
            ("minReadySeconds", "minReadyseconds", "spec.minReadyseconds"),
            ("periodSeconds: 2", "periodSeconds: often", "invalid type"),
            ("- configMap:\n", "- secret:\n", "volumes[].secret.name"),
            ("- configMap:\n          name: ", "- configMap:\n          name: no-", "not there"),
        ] {
            let error = Manifests::read(&RENDERED.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{from}: {error}");
        }
    }
}
