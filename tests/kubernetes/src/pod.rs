//! What a pod's template means for `docker run`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, EnvVar, Lifecycle, PodSpec, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::manifests::{Manifests, folder_of};

/// Who a pod is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) ordinal: usize,
    /// As `majordomo-0`.
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// The Service that governs its set.
    pub(crate) service: String,
}

impl Identity {
    /// Every name that a pod of a set has in the DNS of a cluster; and the Service's, which has all of
    /// its pods, ready or not.
    fn dns_names(&self) -> Vec<String> {
        let Self { name, namespace, service, .. } = self;
        let hosts = [format!("{name}.{service}"), service.clone()];
        let domains = [
            String::new(),
            format!(".{namespace}"),
            format!(".{namespace}.svc"),
            format!(".{namespace}.svc.cluster.local"),
        ];
        let of_host = |host: &String| domains.clone().map(|domain| format!("{host}{domain}"));
        hosts.iter().flat_map(of_host).collect()
    }

    /// Options of Docker that give a container all of its names in a network: each time that it enters
    /// one, for a container that is connected again has none of those that it had before.
    pub(crate) fn alias_options(&self, option: &str) -> Vec<String> {
        self.dns_names().into_iter().flat_map(|alias| [option.to_owned(), alias]).collect()
    }
}

/// One revision of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) image: String,
    pub(crate) grace: Duration,
    pub(crate) startup: HttpProbe,
    pub(crate) liveness: HttpProbe,
    pub(crate) readiness: HttpProbe,
    pub(crate) pre_stop: Option<PreStop>,
    /// Conditions that somebody else has to set before a pod counts as ready.
    pub(crate) gates: BTreeSet<String>,
    pod: PodSpec,
}

/// What is done in a container before its process is told to end, within the grace period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PreStop {
    Exec(Vec<String>),
    Sleep(Duration),
}

impl PreStop {
    fn of(lifecycle: &Lifecycle) -> Option<Self> {
        let hook = lifecycle.pre_stop.as_ref()?;
        let command = hook.exec.as_ref().and_then(|exec| exec.command.clone());
        let sleep = hook.sleep.as_ref().and_then(|sleep| u64::try_from(sleep.seconds).ok());
        let sleep = sleep.map(|seconds| Self::Sleep(Duration::from_secs(seconds)));
        command.map(Self::Exec).or(sleep)
    }
}

/// A probe by HTTP.
#[derive(Clone, Debug)]
pub(crate) struct HttpProbe {
    pub(crate) path: String,
    pub(crate) port: u16,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) failures_max: u32,
    /// What a process gets to end when this probe has failed, in the place of the pod's grace period.
    pub(crate) grace: Option<Duration>,
}

impl Plan {
    /// The plan of a set's template, with this image.
    pub(crate) fn of(manifests: &Manifests, image: &str) -> Result<Self, String> {
        let spec = manifests.set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
        let pod = spec.ok_or("the template has no pod")?;
        let [container] = pod.containers.as_slice() else {
            return Err("only pods of one container are enacted".to_owned());
        };
        let probe = |probe: Option<&Probe>, what| {
            HttpProbe::of(container, probe).ok_or_else(|| format!("{what} is not a probe by HTTP"))
        };
        let grace = pod.termination_grace_period_seconds.unwrap_or(30);
        let gates = pod.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone());
        Ok(Self {
            image: image.to_owned(),
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or_default()),
            startup: probe(container.startup_probe.as_ref(), "startupProbe")?,
            liveness: probe(container.liveness_probe.as_ref(), "livenessProbe")?,
            readiness: probe(container.readiness_probe.as_ref(), "readinessProbe")?,
            pre_stop: container.lifecycle.as_ref().and_then(PreStop::of),
            gates: gates.collect(),
            pod,
        })
    }

    /// Everything of `docker run` but names and networks. Configuration stands below `files`, in a folder
    /// for each ConfigMap and Secret; claims are volumes whose names `volume_of` knows.
    pub(crate) fn options(
        &self,
        identity: &Identity,
        files: &Path,
        volume_of: impl Fn(&str) -> String,
    ) -> Vec<String> {
        let Some(container) = self.pod.containers.first() else { return Vec::new() };
        let mut options = self.security(container);
        for (name, value) in environment(container, identity) {
            options.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        let volumes = self.pod.volumes.iter().flatten();
        let folders: BTreeMap<&str, String> =
            volumes.filter_map(|volume| Some((&*volume.name, folder_of(volume)?))).collect();
        for mount in container.volume_mounts.iter().flatten() {
            let source = match folders.get(&*mount.name) {
                Some(folder) => files.join(folder).display().to_string(),
                None => volume_of(&mount.name),
            };
            let mode = if mount.read_only == Some(true) { ":ro" } else { "" };
            options.extend(["--volume".to_owned(), format!("{source}:{}{mode}", mount.mount_path)]);
        }
        options
    }

    fn security(&self, container: &Container) -> Vec<String> {
        let mut options = Vec::new();
        let mut add = |option: &str, value: String| options.extend([option.to_owned(), value]);
        if let Some(security) = &self.pod.security_context {
            let [user, group] = [security.run_as_user, security.run_as_group]
                .map(|id| id.map_or_else(String::new, |id| id.to_string()));
            add("--user", format!("{user}:{group}"));
        }
        if let Some(security) = &container.security_context {
            if security.allow_privilege_escalation == Some(false) {
                add("--security-opt", "no-new-privileges:true".to_owned());
            }
            let dropped = security.capabilities.as_ref().and_then(|caps| caps.drop.as_ref());
            for capability in dropped.into_iter().flatten() {
                add("--cap-drop", capability.clone());
            }
            if security.read_only_root_filesystem == Some(true) {
                add("--read-only", "true".to_owned());
            }
        }
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        if let Some(memory) = limits.and_then(|limits| limits.get("memory")) {
            // Mi and Gi of Kubernetes are m and g of Docker: powers of two both.
            add("--memory", memory.0.trim_end_matches('i').to_lowercase());
        }
        // `--read-only=true` is one word.
        options
            .join("\n")
            .replace("--read-only\n", "--read-only=")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The port that a Service means.
    pub(crate) fn port(&self, target: &IntOrString) -> Option<u16> {
        port_number(self.pod.containers.first()?, target)
    }

    /// What follows the image.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let container = self.pod.containers.first();
        container.and_then(|container| container.args.clone()).unwrap_or_default()
    }
}

/// The variables in their order: a later one may name earlier ones as `$(NAME)`.
fn environment(container: &Container, identity: &Identity) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = value_of(variable, identity, &known);
        known.push((variable.name.clone(), value));
    }
    known
}

fn value_of(variable: &EnvVar, identity: &Identity, known: &[(String, String)]) -> String {
    let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
    match field.map(|field| field.field_path.as_str()) {
        Some("metadata.name") => identity.name.clone(),
        Some("metadata.namespace") => identity.namespace.clone(),
        Some(other) => panic!("fieldPath {other:?} is not enacted"),
        None => {
            let mut value = variable.value.clone().unwrap_or_default();
            for (name, known) in known {
                value = value.replace(&format!("$({name})"), known);
            }
            value
        }
    }
}

/// A port of a container by its number or name.
fn port_number(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

impl HttpProbe {
    fn of(container: &Container, probe: Option<&Probe>) -> Option<Self> {
        let probe = probe?;
        let get = probe.http_get.as_ref()?;
        // The defaults of the API.
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            Duration::from_secs(value.unwrap_or(default))
        };
        Some(Self {
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
            port: port_number(container, &get.port)?,
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            failures_max: probe.failure_threshold.and_then(|n| u32::try_from(n).ok()).unwrap_or(3),
            grace: probe
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_has_its_names_whenever_it_enters_a_network() {
        let identity = Identity {
            ordinal: 2,
            name: "majordomo-2".to_owned(),
            namespace: "mdp".to_owned(),
            service: "mdp-peers".to_owned(),
        };

        let names = "--alias majordomo-2.mdp-peers --alias majordomo-2.mdp-peers.mdp \
                     --alias majordomo-2.mdp-peers.mdp.svc \
                     --alias majordomo-2.mdp-peers.mdp.svc.cluster.local \
                     --alias mdp-peers --alias mdp-peers.mdp --alias mdp-peers.mdp.svc \
                     --alias mdp-peers.mdp.svc.cluster.local";
        assert_eq!(identity.alias_options("--alias").join(" "), names);
    }

    #[test]
    fn template_becomes_options_of_docker() {
        let rendered = include_str!("../../../deploy/kubernetes/majordomo.yaml");
        let manifests = Manifests::read(rendered).unwrap();
        let plan = Plan::of(&manifests, "majordomo:0.1.0").unwrap();
        let identity = Identity {
            ordinal: 2,
            name: "majordomo-2".to_owned(),
            namespace: "mdp".to_owned(),
            service: "mdp-peers".to_owned(),
        };

        let options = plan.options(&identity, Path::new("/files"), |claim| format!("v-{claim}"));
        let options = options.join(" ");

        for wanted in [
            "--user 65532:65532",
            "--security-opt no-new-privileges:true --cap-drop ALL --read-only=true --memory 768m",
            "--env MAJORDOMO__NODE__NAME=majordomo-2",
            "ADVERTISE=majordomo-2.mdp-peers.mdp.svc.cluster.local:5556",
            ",majordomo-1=majordomo-1.mdp-peers.mdp.svc.cluster.local:5556,",
            "--volume v-data:/var/lib/majordomo",
            "/etc/majordomo:ro",
        ] {
            assert!(options.contains(wanted), "{wanted}: {options}");
        }
        assert_eq!(plan.arguments(), ["serve", "--config", "/etc/majordomo/majordomo.toml"]);
        let probe = &plan.readiness;
        assert_eq!((probe.path.as_str(), probe.port, probe.failures_max), ("/readyz", 5580, 2));
        assert_eq!(plan.grace, Duration::from_secs(60));
    }
}
