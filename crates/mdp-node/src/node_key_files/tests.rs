use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    files: NodeKeyFiles,
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn node(number: u8) -> NodeName {
    format!("node-{number}").parse().unwrap()
}

impl Scene {
    /// Three nodes, of which this is the first.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key_file, keys_dir) =
            (folder.path().join("own.key_secret"), folder.path().join("keys"));
        fs::create_dir(&keys_dir).unwrap();
        let files = NodeKeyFiles { security: LinkSecurity::Require, key_file, keys_dir };
        let scene = Self { folder, files };
        scene.write_own(&KeyFile::secret_text("node-1", &secret(1)), 0o600);
        (1..=3).for_each(|number| scene.write(&format!("node-{number}.key"), number));
        scene
    }

    fn write_own(&self, text: &str, mode: u32) {
        fs::write(&self.files.key_file, text).unwrap();
        fs::set_permissions(&self.files.key_file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write(&self, name: &str, number: u8) {
        let text = KeyFile::public_text(name, &secret(number).public());
        fs::write(self.files.keys_dir.join(name), text).unwrap();
    }

    fn problem(&self) -> String {
        let problem = self.files.load(&node(1)).unwrap_err().to_string();
        problem.replace(&self.folder.path().display().to_string(), "DIR")
    }
}

#[test]
fn folder_names_the_key_of_each_node() {
    let scene = Scene::new();
    fs::write(scene.files.keys_dir.join("README"), "no key").unwrap();
    fs::write(scene.files.keys_dir.join(".hidden.key"), "no key").unwrap();

    let keys = scene.files.load(&node(1)).unwrap();

    let read: Vec<_> = keys.nodes().map(|(name, key)| (name.clone(), *key)).collect();
    assert_eq!(read, [1, 2, 3].map(|number| (node(number), secret(number).public())));
}

#[test]
fn secret_key_that_all_can_read_is_refused() {
    let scene = Scene::new();
    for mode in [0o604, 0o602, 0o601] {
        scene.write_own(&KeyFile::secret_text("node-1", &secret(1)), mode);
        assert!(scene.problem().contains("every user of this machine can read it"), "{mode:o}");
    }
    // Kubernetes lets the group read.
    scene.write_own(&KeyFile::secret_text("node-1", &secret(1)), 0o640);
    assert!(scene.files.load(&node(1)).is_ok());
}

#[test]
fn wrong_files_are_named_with_what_would_be_right() {
    let scene = Scene::new();
    scene.write("node-3.key", 2);
    assert!(scene.problem().contains("node-2 and node-3 have the same key"));
    fs::write(scene.files.keys_dir.join("node-3.key"), "nothing").unwrap();
    assert!(scene.problem().starts_with("DIR/keys/node-3.key: there is no `public-key"));
    fs::write(
        scene.files.keys_dir.join("node-3.key"),
        KeyFile::secret_text("node-3", &secret(3)).as_str(),
    )
    .unwrap();
    assert!(scene.problem().contains("it has a secret key, which does not belong here"));
    fs::remove_file(scene.files.keys_dir.join("node-3.key")).unwrap();
    scene.write("node-1.key", 4);
    assert!(scene.problem().contains("it has no node-1.key with the key of cluster.key_file"));
    scene.write("a name.key", 5);
    assert!(scene.problem().contains("is no name of a node"));
    scene.write_own(&KeyFile::public_text("node-1", &secret(1).public()), 0o600);
    assert!(scene.problem().contains("it has no secret key"));
    fs::remove_file(&scene.files.key_file).unwrap();
    assert!(scene.problem().starts_with("DIR/own.key_secret: it can not be read"));
}
