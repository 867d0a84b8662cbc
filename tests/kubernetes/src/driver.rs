//! The driver: a cluster of one StatefulSet, as `kubectl` and its controllers would have it.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Output,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{look_for, wait_until};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tempfile::TempDir;

use crate::{
    Disruption, Event, What,
    docker::{Network, docker, must, output, succeeds},
    events::Events,
    kubelet::{Making, Pod},
    manifests::Manifests,
    pod::{Identity, Plan},
    rollout::{self, Seen, Step, Wanted},
    service::ServiceAddress,
};

/// Between two looks of the controller.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The first address that a pod gets; later ones are never used twice in a row.
const FIRST_ADDRESS: u8 = 10;

/// What an eviction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// 201: the pod ends.
    Yes,
    /// 429: it would violate the pod's disruption budget.
    WouldViolateBudget,
}

/// A cluster; everything of it is gone when it is dropped.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    service: ServiceAddress,
    service_names: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    manifests: Manifests,
    /// Unique on this machine: what all names begin with.
    prefix: String,
    network: Network,
    files: TempDir,
    events: Events,
    state: Mutex<State>,
    is_over: AtomicBool,
    min_ready: Duration,
    unavailable_max: usize,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    revisions: Vec<Plan>,
    pods: BTreeMap<usize, Pod>,
    next_address: u8,
    made: u32,
}

impl Driver {
    /// `kubectl apply` of manifests, with this image in the place of theirs.
    ///
    /// # Panics
    /// The engine or the manifests can not be used.
    #[must_use]
    pub fn apply(manifests: Manifests, image: &str) -> Self {
        static GIVEN: AtomicU32 = AtomicU32::new(0);
        let number = GIVEN.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("majordomo-k8s-test-{}-{number}", std::process::id());
        let plan = Plan::of(&manifests, image).unwrap();
        let spec = manifests.set.spec.clone().unwrap_or_default();
        let partition = spec.update_strategy.and_then(|update| update.rolling_update);
        let partition = count(partition.and_then(|rolling| rolling.partition), 0);
        let replicas = count(spec.replicas, 1);
        let wanted = Wanted { replicas, partition, update: 0, current: 0 };
        let files = TempDir::new().unwrap();
        write_files(files.path(), &manifests);
        let state = State {
            wanted,
            revisions: vec![plan],
            pods: BTreeMap::new(),
            next_address: FIRST_ADDRESS,
            made: 0,
        };
        let shared = Arc::new(Shared {
            network: Network::create(&prefix),
            prefix,
            files,
            events: Events::begin(),
            state: Mutex::new(state),
            is_over: AtomicBool::default(),
            min_ready: Duration::from_secs(
                spec.min_ready_seconds.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            ),
            unavailable_max: unavailable_max(&manifests),
            manifests,
        });
        let (service, service_names) = listen(&shared);
        let controller = Arc::clone(&shared);
        thread::spawn(move || {
            while !controller.is_over.load(Ordering::Relaxed) {
                controller.reconcile();
                thread::sleep(LOOK_INTERVAL);
            }
        });
        Self { shared, service, service_names }
    }

    /// A new revision of the template: `kubectl set image`.
    pub fn set_image(&self, image: &str) {
        let mut state = self.shared.lock();
        let Some(mut plan) = state.revisions.get(state.wanted.update).cloned() else { return };
        image.clone_into(&mut plan.image);
        // The same template is the same revision, as after an undo.
        let known = state.revisions.iter().position(|other| other.image == plan.image);
        state.wanted.update = known.unwrap_or_else(|| {
            state.revisions.push(plan);
            state.revisions.len() - 1
        });
    }

    /// `kubectl rollout undo`: back to what was rolled out completely the last time.
    pub fn undo(&self) {
        let mut state = self.shared.lock();
        state.wanted.update = state.wanted.current;
    }

    /// `spec.updateStrategy.rollingUpdate.partition`.
    pub fn set_partition(&self, partition: usize) {
        self.shared.lock().wanted.partition = partition;
    }

    /// `kubectl scale`.
    pub fn scale(&self, replicas: usize) {
        self.shared.lock().wanted.replicas = replicas;
    }

    /// `kubectl delete pod`, or with `--grace-period=0 --force`. Its successor has another address.
    pub fn delete_pod(&self, ordinal: usize, is_forced: bool) {
        if let Some(pod) = self.shared.lock().pods.get(&ordinal) {
            pod.delete(is_forced);
        }
    }

    /// A process that is killed: its container is started again in the same pod.
    pub fn kill_container(&self, ordinal: usize) {
        let container = self.container(ordinal);
        self.shared.events.add(ordinal, What::Disrupted);
        succeeds(&["kill", &container]);
    }

    /// The Eviction API: what `kubectl drain` asks for.
    ///
    /// # Panics
    /// There is no such pod.
    #[must_use]
    pub fn evict(&self, ordinal: usize) -> Evicted {
        let state = self.shared.lock();
        let pod = state.pods.get(&ordinal).unwrap_or_else(|| panic!("no pod {ordinal}"));
        let ready = state.pods.values().filter(|pod| pod.status().is_ready).count();
        let (replicas, max) = (state.wanted.replicas, self.shared.unavailable_max);
        // IfHealthyBudget: of a pod that is not ready, too, only while the budget holds.
        if rollout::disruptions_allowed(replicas, ready, max) == 0 {
            return Evicted::WouldViolateBudget;
        }
        pod.delete(false);
        Evicted::Yes
    }

    /// The claim and the pod are deleted: the pod comes back with an empty volume.
    pub fn lose_volume(&self, ordinal: usize) {
        let Some(pod) = self.shared.lock().pods.get(&ordinal).cloned() else { return };
        pod.delete(true);
        // A claim in use is gone when its pod is.
        wait_until("the pod is gone", Duration::from_secs(30), || pod.status().is_gone);
        self.shared.remove_volumes(&pod);
    }

    /// Deletes the claims of a pod that is not there: `kubectl delete pvc`.
    pub fn delete_claims(&self, ordinal: usize) {
        for claim in self.shared.claims() {
            let pod = self.shared.pod_name(ordinal);
            succeeds(&[
                "volume",
                "rm",
                "--force",
                &format!("{}-{claim}-{pod}", self.shared.prefix),
            ]);
        }
    }

    /// Sets a condition of a pod that a readiness gate waits for; its successor begins without.
    pub fn set_condition(&self, ordinal: usize, condition: &str, holds: bool) {
        if let Some(pod) = self.shared.lock().pods.get(&ordinal) {
            pod.set_condition(condition, holds);
        }
    }

    /// Cuts a pod off from everybody, or ends that.
    pub fn set_cut_off(&self, ordinal: usize, is_cut_off: bool) {
        let Some(pod) = self.shared.lock().pods.get(&ordinal).cloned() else { return };
        let network = &self.shared.network.name;
        if is_cut_off {
            self.shared.events.add(ordinal, What::Disrupted);
            must(&["network", "disconnect", network, &pod.container]);
        } else {
            let address = pod.address.to_string();
            let names = pod.identity.alias_options("--alias");
            let mut connect = vec!["network", "connect", "--ip", &address];
            connect.extend(names.iter().map(String::as_str));
            connect.extend([network.as_str(), &pod.container]);
            must(&connect);
        }
    }

    /// Stops all processes of a pod where they are, or lets them go on.
    pub fn set_frozen(&self, ordinal: usize, is_frozen: bool) {
        if is_frozen {
            self.shared.events.add(ordinal, What::Disrupted);
        }
        must(&[if is_frozen { "pause" } else { "unpause" }, &self.container(ordinal)]);
    }

    /// `kubectl exec`.
    ///
    /// # Errors
    /// What the command said when it failed.
    pub fn exec(&self, ordinal: usize, command: &[&str]) -> Result<String, String> {
        let container = self.container(ordinal);
        docker(&[&["exec", &container][..], command].concat())
    }

    /// `kubectl logs`.
    #[must_use]
    pub fn log(&self, ordinal: usize) -> String {
        let Output { stdout, stderr, .. } = output(&["logs", &self.container(ordinal)]);
        [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    /// How many pods are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.lock().pods.values().filter(|pod| pod.status().is_ready).count()
    }

    /// Waits until as many pods are ready as are wanted, and no others are left. Returns how long it
    /// took.
    #[track_caller]
    pub fn wait_until_ready(&self, patience: Duration) -> Duration {
        self.wait("all pods are ready", patience, |state| {
            state.pods.len() == state.wanted.replicas
                && state.pods.values().all(|pod| pod.status().is_ready)
        })
    }

    /// `kubectl rollout status`. Returns how long it took.
    #[track_caller]
    pub fn wait_for_rollout(&self, patience: Duration) -> Duration {
        let min_ready = self.shared.min_ready;
        self.wait("the rollout is complete", patience, |state| {
            let (update, partition) = (state.wanted.update, state.wanted.partition);
            state.pods.len() == state.wanted.replicas
                && state.pods.values().all(|pod| {
                    let is_right = pod.identity.ordinal < partition || pod.revision == update;
                    is_right && is_available(pod, min_ready)
                })
        })
    }

    #[track_caller]
    fn wait(&self, what: &str, patience: Duration, holds: impl Fn(&State) -> bool) -> Duration {
        let begun = Instant::now();
        let held = look_for(patience, || holds(&self.shared.lock()).then_some(()));
        assert!(held.is_some(), "not within {patience:?}: {what}\n{}", self.story());
        begun.elapsed()
    }

    /// The image that a pod was made from.
    #[must_use]
    pub fn image(&self, ordinal: usize) -> Option<String> {
        let state = self.shared.lock();
        let revision = state.pods.get(&ordinal)?.revision;
        state.revisions.get(revision).map(|plan| plan.image.clone())
    }

    /// Where a pod is now.
    #[must_use]
    pub fn address(&self, ordinal: usize) -> Option<IpAddr> {
        self.shared.lock().pods.get(&ordinal).map(|pod| pod.address)
    }

    /// The process of a pod, as this machine numbers it.
    ///
    /// # Panics
    /// There is no such pod.
    #[must_use]
    pub fn process(&self, ordinal: usize) -> u32 {
        let id = must(&["inspect", "--format", "{{.State.Pid}}", &self.container(ordinal)]);
        id.parse().unwrap_or_else(|_| panic!("pod {ordinal} does not run"))
    }

    /// What happened so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.shared.events.all()
    }

    /// What was done to pods, or is being done since a container was told to end.
    #[must_use]
    pub fn disruptions(&self) -> Vec<Disruption> {
        self.shared.events.disruptions()
    }

    /// What happened, as text, with the end of each pod's log.
    #[must_use]
    pub fn story(&self) -> String {
        let mut story: Vec<String> = self.events().iter().map(ToString::to_string).collect();
        let ordinals: Vec<usize> = self.shared.lock().pods.keys().copied().collect();
        for ordinal in ordinals {
            let log = self.log(ordinal);
            let lines: Vec<&str> = log.lines().collect();
            story.push(format!("log of pod {ordinal}:"));
            story.extend(lines.iter().rev().take(8).rev().map(|line| (*line).to_owned()));
        }
        story.join("\n")
    }

    /// Options of `docker run` for a container that sees what a pod of the namespace sees: the pods by
    /// their names, and the Service.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        let mut options = vec!["--network".to_owned(), self.shared.network.name.clone()];
        for name in &self.service_names {
            options.push("--add-host".to_owned());
            options.push(format!("{name}:{}", self.service.address.ip()));
        }
        options
    }

    fn container(&self, ordinal: usize) -> String {
        let state = self.shared.lock();
        state.pods.get(&ordinal).map_or_else(String::new, |pod| pod.container.clone())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(writeln!(io::stderr(), "{}", self.story()));
        }
        self.shared.is_over.store(true, Ordering::Relaxed);
        let pods: Vec<Pod> = self.shared.lock().pods.values().cloned().collect();
        for pod in &pods {
            pod.delete(true);
        }
        look_for(Duration::from_secs(30), || {
            pods.iter().all(|pod| pod.status().is_gone).then_some(())
        });
        let filter = format!("name={}-", self.shared.prefix);
        let volumes = docker(&["volume", "ls", "--quiet", "--filter", &filter]);
        for volume in volumes.unwrap_or_default().lines() {
            succeeds(&["volume", "rm", "--force", volume]);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reconcile(self: &Arc<Self>) {
        let mut state = self.lock();
        let gone: Vec<Pod> =
            state.pods.values().filter(|pod| pod.status().is_gone).cloned().collect();
        for pod in gone {
            state.pods.remove(&pod.identity.ordinal);
            let is_scaled_away = pod.identity.ordinal >= state.wanted.replicas;
            if is_scaled_away && self.deletes_claims_of_scaled() {
                self.remove_volumes(&pod);
            }
        }
        let seen: Vec<Seen> = state.pods.values().map(|pod| self.see(pod)).collect();
        let wanted = state.wanted;
        let is_complete = seen.len() == wanted.replicas
            && seen.iter().all(|pod| pod.revision == wanted.update && pod.is_available);
        if is_complete && wanted.partition == 0 {
            state.wanted.current = wanted.update;
        }
        for step in rollout::steps(&wanted, &seen) {
            match step {
                Step::Delete { ordinal } => {
                    if let Some(pod) = state.pods.get(&ordinal) {
                        pod.delete(false);
                    }
                }
                Step::Create { ordinal, revision } => {
                    let pod = self.create(&mut state, ordinal, revision);
                    state.pods.insert(ordinal, pod);
                }
            }
        }
    }

    fn see(&self, pod: &Pod) -> Seen {
        Seen {
            ordinal: pod.identity.ordinal,
            revision: pod.revision,
            is_available: is_available(pod, self.min_ready),
            is_terminating: pod.is_terminating(),
        }
    }

    fn create(&self, state: &mut State, ordinal: usize, revision: usize) -> Pod {
        let name = self.pod_name(ordinal);
        let spec = self.manifests.set.spec.as_ref();
        let service = spec.and_then(|spec| spec.service_name.clone()).unwrap_or_default();
        let namespace = self.manifests.namespace.clone();
        state.made += 1;
        let container = format!("{}-{name}-{}", self.prefix, state.made);
        let address = self.network.address(state.next_address);
        state.next_address = state.next_address.checked_add(1).unwrap_or(FIRST_ADDRESS);
        let plan = state.revisions.get(revision).cloned();
        let making = Making {
            plan: plan.unwrap(),
            network: self.network.name.clone(),
            files: self.files.path().to_owned(),
            volumes: self.prefix.clone(),
            events: self.events.clone(),
        };
        let identity = Identity { ordinal, name, namespace, service };
        Pod::start(identity, revision, container, address, making)
    }

    fn pod_name(&self, ordinal: usize) -> String {
        format!("{}-{ordinal}", self.manifests.name())
    }

    fn claims(&self) -> Vec<String> {
        let spec = self.manifests.set.spec.as_ref();
        let claims = spec.and_then(|spec| spec.volume_claim_templates.as_ref());
        claims.into_iter().flatten().filter_map(|claim| claim.metadata.name.clone()).collect()
    }

    fn remove_volumes(&self, pod: &Pod) {
        for claim in self.claims() {
            succeeds(&["volume", "rm", "--force", &pod.volume(&self.prefix, &claim)]);
        }
    }

    fn deletes_claims_of_scaled(&self) -> bool {
        let spec = self.manifests.set.spec.as_ref();
        let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        policy.and_then(|policy| policy.when_scaled.as_deref()) == Some("Delete")
    }
}

fn is_available(pod: &Pod, min_ready: Duration) -> bool {
    pod.status().ready_since.is_some_and(|since| since.elapsed() >= min_ready)
}

fn count(number: Option<i32>, default: usize) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

fn unavailable_max(manifests: &Manifests) -> usize {
    let spec = manifests.budget.spec.as_ref();
    match spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        Some(IntOrString::Int(number)) => count(Some(*number), 0),
        Some(IntOrString::String(_)) | None => panic!("a budget of maxUnavailable as a number"),
    }
}

/// Each ConfigMap and Secret is a folder, and each of its keys a file.
fn write_files(folder: &Path, manifests: &Manifests) {
    use std::os::unix::fs::PermissionsExt as _;

    let readable = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    readable(folder, 0o755);
    for (name, data) in &manifests.files {
        let map = folder.join(name);
        fs::create_dir(&map).unwrap();
        readable(&map, 0o755);
        for (key, bytes) in data {
            fs::write(map.join(key), bytes).unwrap();
            readable(&map.join(key), 0o644);
        }
    }
}

/// Opens the address of the Service for clients.
fn listen(shared: &Arc<Shared>) -> (ServiceAddress, Vec<String>) {
    let service = shared.manifests.client_service();
    let service = service.unwrap_or_else(|| panic!("no Service with an address"));
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let [port] = ports.as_slice() else { panic!("only Services of one port are enacted") };
    let number = u16::try_from(port.port).unwrap_or_default();
    let target = port.target_port.clone().unwrap_or(IntOrString::Int(port.port));
    let target = shared.lock().revisions.first().and_then(|plan| plan.port(&target));
    let target = target.unwrap_or_else(|| panic!("no container has the port of the Service"));
    let weak = Arc::downgrade(shared);
    let endpoints = move || -> Vec<SocketAddr> {
        let Some(shared) = weak.upgrade() else { return Vec::new() };
        let state = shared.lock();
        let ready = state.pods.values().filter(|pod| pod.status().is_ready);
        ready.map(|pod| SocketAddr::new(pod.address, target)).collect()
    };
    let address = ServiceAddress::listen(shared.network.gateway(), number, endpoints).unwrap();
    let name = service.metadata.name.clone().unwrap_or_default();
    let namespace = &shared.manifests.namespace;
    let full = format!("{name}.{namespace}.svc.cluster.local");
    (address, vec![name, full])
}
