//! A data directory is damaged: the node finds out before it says anything, and the rest serves.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cluster_tests::{Asker, ClusterNode, Code, TestCluster, look_for, scale};

use crate::{askers, assert_everywhere, part_of_the_machine, random, register};

/// How long a node may take to find out.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// The exit code for a data directory that can not be used.
const STORAGE_REFUSED: Option<i32> = Some(4);

/// Long enough to be nowhere by chance.
const SERVICE: &str = "a-service-whose-name-stands-in-the-log";

/// All files below a directory, with their contents.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // Not the socket of a node that was killed.
    let entries = entries.filter(|path| path.is_dir() || path.is_file());
    let contents = |path: PathBuf| {
        if path.is_dir() { files(&path) } else { vec![(path.clone(), fs::read(&path).unwrap())] }
    };
    let mut files: Vec<_> = entries.flat_map(contents).collect();
    files.sort();
    files
}

fn write(files: &[(PathBuf, Vec<u8>)]) {
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// A cluster with something in its log, and a follower of it that was killed.
struct Scene {
    cluster: TestCluster,
    victim: usize,
    _worker: cluster_tests::RawWorker,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = TestCluster::start(&[]);
        let victim = cluster.follower();
        let worker = register(&cluster, cluster.leader(), SERVICE);
        cluster.wait_until_level();
        cluster.node_mut(victim).kill();
        Self { cluster, victim, _worker: worker }
    }

    fn victim(&mut self) -> &mut ClusterNode {
        self.cluster.node_mut(self.victim)
    }

    /// The node must refuse to start with what is in its directory, and say why.
    #[track_caller]
    fn assert_refused(&mut self, what: &str) {
        let victim = self.victim();
        victim.start();
        let code = victim.wait_for_exit(NOTICED_WITHIN);
        let (log, data_dir) = (victim.log(), victim.data_dir().display().to_string());
        assert_eq!(code, STORAGE_REFUSED, "{what}: {log}");
        let message = log.lines().rfind(|line| line.contains(&data_dir));
        println!("{what}: {}", message.unwrap_or_else(|| panic!("{what}: no message: {log}")));
        self.assert_others_serve();
    }

    #[track_caller]
    fn assert_others_serve(&self) {
        for node in self.cluster.others(&[self.victim]) {
            let mut asker = Asker::connect(self.cluster.node(node));
            assert_eq!(asker.lookup(SERVICE), Code::Found);
        }
    }

    /// The remedy that the message names.
    #[track_caller]
    fn join_again_with_an_empty_directory(&mut self) {
        self.victim().lose_data();
        self.victim().start();
        self.cluster.wait_until_ready();
        assert_everywhere(&mut askers(&self.cluster), SERVICE, Code::Found);
    }
}

#[test]
fn flipped_bit_of_a_committed_entry_is_refused() {
    let _machine = part_of_the_machine();
    let mut scene = Scene::new();
    let mut files = files(&scene.victim().data_dir());
    let mut flipped = 0;
    for (_, bytes) in &mut files {
        let places: Vec<usize> = bytes
            .windows(SERVICE.len())
            .enumerate()
            .filter(|(_, window)| *window == SERVICE.as_bytes())
            .map(|(at, _)| at)
            .collect();
        flipped += places.len();
        places.into_iter().for_each(|at| bytes[at] ^= 1);
    }
    assert!(flipped > 0, "the entry is in no file");
    write(&files);

    scene.assert_refused("a flipped bit");

    scene.join_again_with_an_empty_directory();
}

#[test]
fn truncated_files_are_refused() {
    let _machine = part_of_the_machine();
    let mut scene = Scene::new();
    let whole = files(&scene.victim().data_dir());
    let mut tried = 0;
    for (path, bytes) in whole.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for length in [bytes.len() / 2, bytes.len() - 1, 0] {
            fs::write(path, &bytes[..length]).unwrap();
            let name = path.file_name().unwrap().display().to_string();

            scene.assert_refused(&format!("{name} cut to {length} of {} bytes", bytes.len()));

            write(&whole);
            tried += 1;
        }
    }
    assert!(tried > 0, "the data directory has no files");

    // What was put back is as good as before.
    scene.victim().start();
    scene.cluster.wait_until_ready();
    assert_everywhere(&mut askers(&scene.cluster), SERVICE, Code::Found);
}

#[test]
fn flipped_bits_anywhere_are_refused_or_harmless() {
    let _machine = part_of_the_machine();
    let mut random = random();
    let mut scene = Scene::new();
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..scale().pick(10, 1_000) {
        let whole = files(&scene.victim().data_dir());
        let mut damaged = whole.clone();
        let (path, bytes) = loop {
            let file = random.choice(&mut damaged).unwrap();
            if !file.1.is_empty() {
                break file;
            }
        };
        let (at, bit) = (random.usize(0..bytes.len()), random.u8(0..8));
        bytes[at] ^= 1 << bit;
        let what = format!("bit {bit} of byte {at} of {}", path.display());
        write(&damaged);

        scene.victim().start();
        let victim = scene.victim;
        let is_ready = look_for(NOTICED_WITHIN, || {
            let node = scene.cluster.node_mut(victim);
            if !node.is_running() {
                return Some(false);
            }
            node.readiness().is_some_and(|now| now.is_ready).then_some(true)
        });
        match is_ready {
            Some(true) => {
                harmless += 1;
                scene.cluster.wait_until_level();
                assert_everywhere(&mut askers(&scene.cluster), SERVICE, Code::Found);
                scene.victim().kill();
            }
            Some(false) => {
                refused += 1;
                let code = scene.victim().wait_for_exit(NOTICED_WITHIN);
                assert_eq!(code, STORAGE_REFUSED, "{what}: {}", scene.victim().log());
                write(&whole);
            }
            None => panic!("{what}: neither refused nor ready: {}", scene.victim().log()),
        }
        scene.assert_others_serve();
    }
    println!("flipped bits: {refused} refused, {harmless} harmless");
}
