use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use mdp_broker::{Decision, Operation, Subject};
use mdp_transport::SecretKey;
use tempfile::{TempDir, tempdir};

use super::*;

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn key(number: u8) -> IdentityKey {
    IdentityKey(*secret(number).public().as_bytes())
}

fn directory(files: &[(&str, String)]) -> TempDir {
    let directory = tempdir().unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn with_keys(numbers: &[u8], more: &str) -> String {
    let keys: Vec<_> = numbers.iter().map(|number| secret(*number).public().to_string()).collect();
    format!("keys = {keys:?}\n{more}\n")
}

fn load(directory: &TempDir) -> Result<IdentityFiles, IdentityFilesError> {
    IdentityFiles::load(directory.path(), Enforcement::Enforce)
}

fn names(names: &[IdentityName]) -> Vec<&str> {
    names.iter().map(IdentityName::as_str).collect()
}

#[test]
fn files_of_a_directory_are_identities_with_their_keys_and_grants() {
    let bare = KeyFile::public_text("bare", &secret(3).public());
    let directory = directory(&[
        ("billing.toml", with_keys(&[1], "call = [\"billing.*\"]")),
        ("billing.key", KeyFile::public_text("billing", &secret(2).public())),
        ("bare.key", bare),
        ("anonymous.toml", "call = [\"echo\"]".to_owned()),
        ("README.md", "not an identity".to_owned()),
        (".hidden.toml", "broken".to_owned()),
    ]);

    let files = load(&directory).unwrap();

    let access = files.access();
    let all: Vec<_> = access.identities().map(|identity| identity.name.as_str()).collect();
    assert_eq!(all, ["bare", "billing"]);
    let billing = access.identity_of(&key(1)).unwrap();
    assert_eq!(access.identity_of(&key(2)), Some(billing));
    let may = |subject, service: &str| {
        access.decide(subject, Operation::Call, service.as_bytes()) == Decision::Allowed
    };
    assert!(may(Subject::Identity(billing), "billing.pay"));
    assert!(!may(Subject::Identity(access.identity_of(&key(3)).unwrap()), "billing.pay"));
    assert!(may(Subject::Anonymous, "echo") && !may(Subject::Anonymous, "billing.pay"));
}

#[test]
fn directory_as_kubernetes_mounts_it_is_read_by_its_links() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("..2026_12_01");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("billing.toml"), with_keys(&[1], "")).unwrap();
    symlink("..2026_12_01", directory.path().join("..data")).unwrap();
    symlink("..data/billing.toml", directory.path().join("billing.toml")).unwrap();
    let mut files = load(&directory).unwrap();
    assert!(files.access().identity_of(&key(1)).is_some());

    // An update puts another directory in its place.
    let next = directory.path().join("..2026_12_02");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("billing.toml"), with_keys(&[2], "")).unwrap();
    symlink("..2026_12_02", directory.path().join("..next")).unwrap();
    fs::rename(directory.path().join("..next"), directory.path().join("..data")).unwrap();
    let changes = changes_of(&mut files);

    assert_eq!(names(&changes.changed), ["billing"]);
    assert!(files.access().identity_of(&key(1)).is_none());
    assert!(files.access().identity_of(&key(2)).is_some());
}

#[test]
fn reload_tells_what_is_different_and_nothing_if_nothing_is() {
    let directory = directory(&[
        ("a.toml", with_keys(&[1], "")),
        ("b.toml", with_keys(&[2], "")),
        ("c.toml", with_keys(&[3], "")),
    ]);
    let mut files = load(&directory).unwrap();
    let digest = files.digest();
    assert_eq!(files.reload().unwrap(), Reload::default());

    fs::remove_file(directory.path().join("a.toml")).unwrap();
    fs::write(directory.path().join("b.toml"), with_keys(&[2], "call = [\"x\"]")).unwrap();
    fs::write(directory.path().join("d.toml"), with_keys(&[4], "")).unwrap();
    fs::write(directory.path().join("anonymous.toml"), "").unwrap();
    let changes = changes_of(&mut files);

    assert_eq!(names(&changes.removed), ["a"]);
    assert_eq!(names(&changes.changed), ["b"]);
    assert_eq!(names(&changes.added), ["d"]);
    assert!(changes.anonymous);
    assert_ne!(files.digest(), digest);
}

/// What is different when it was read twice.
fn changes_of(files: &mut IdentityFiles) -> IdentityChanges {
    let first = files.reload().unwrap();
    assert!(first.is_settling && first.changes.is_none(), "{first:?}");
    let second = files.reload().unwrap();
    assert!(!second.is_settling);
    second.changes.unwrap()
}

#[test]
fn broken_file_counts_as_it_was_and_keeps_no_other_from_changing() {
    let directory = directory(&[
        ("a.toml", with_keys(&[1], "call = [\"x\"]")),
        ("stolen.toml", with_keys(&[2], "")),
    ]);
    let mut files = load(&directory).unwrap();
    let path = |file: &str| directory.path().join(file);
    fs::write(path("a.toml"), "cal = []").unwrap();
    fs::write(path("c.key"), "nothing").unwrap();
    fs::write(path("d.key_secret"), "nothing").unwrap();
    fs::remove_file(path("stolen.toml")).unwrap();

    let changes = changes_of(&mut files);
    let problems = list(&files.reload().unwrap().problems);

    assert_eq!((names(&changes.removed), names(&changes.changed)), (vec!["stolen"], vec![]));
    assert!(files.access().identity_of(&key(2)).is_none());
    let kept = files.access().identity_of(&key(1)).unwrap();
    let may = files.access().decide(Subject::Identity(kept), Operation::Call, b"x");
    assert_eq!(may, Decision::Allowed);
    assert!(problems.contains("d.key_secret: a secret key does not belong here"), "{problems}");
    assert!(
        problems.contains("a.toml: ") && problems.contains("unknown field `cal`"),
        "{problems}"
    );
    assert!(problems.contains("c.key: there is no `public-key"), "{problems}");
}

#[test]
fn file_that_is_being_written_counts_when_it_is_whole() {
    let directory = directory(&[("a.toml", with_keys(&[1], "max_workers = 1"))]);
    let mut files = load(&directory).unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, "").unwrap();
    assert!(files.reload().unwrap().is_settling);
    fs::write(&path, with_keys(&[1], "max_workers = 2")).unwrap();

    let changes = changes_of(&mut files);

    assert_eq!(names(&changes.changed), ["a"]);
    assert!(files.access().identity_of(&key(1)).is_some());
}

#[test]
fn file_that_every_user_may_change_is_refused() {
    let directory = directory(&[("a.toml", with_keys(&[1], ""))]);
    fs::set_permissions(directory.path().join("a.toml"), Permissions::from_mode(0o666)).unwrap();
    let error = load(&directory).unwrap_err().to_string();
    assert!(error.contains("a.toml: every user of this machine can change it"), "{error}");
}

#[test]
fn mistakes_between_files_are_named() {
    let shared = directory(&[("a.toml", with_keys(&[1], "")), ("b.toml", with_keys(&[1], ""))]);
    let error = load(&shared).unwrap_err().to_string();
    assert!(error.contains("a and b have the same key"), "{error}");

    let named = directory(&[("-a.toml", String::new())]);
    let error = load(&named).unwrap_err().to_string();
    assert!(error.contains("\"-a\" is no name: use 1 to 63 letters"), "{error}");

    let keys = directory(&[("anonymous.toml", with_keys(&[1], ""))]);
    let error = load(&keys).unwrap_err().to_string();
    assert!(error.contains("anonymous.toml: anonymous is for peers without a key"), "{error}");

    let own = KeyFile::secret_text("a", &secret(1));
    let leaked = directory(&[("a.key", own.as_str().to_owned())]);
    let error = load(&leaked).unwrap_err().to_string();
    assert!(error.contains("a.key: it has a secret key"), "{error}");
    assert!(!error.contains(secret(1).to_z85().as_str()));

    let long = directory(&[("a.toml", "#".repeat(65 << 10))]);
    let error = load(&long).unwrap_err().to_string();
    assert!(error.contains("it has more than 65536 bytes"), "{error}");

    let missing = Path::new("/no/such/directory");
    let error = IdentityFiles::load(missing, Enforcement::Enforce).unwrap_err().to_string();
    assert!(error.contains("/no/such/directory can not be read"), "{error}");
}

#[test]
fn digest_is_that_of_the_contents_wherever_they_are() {
    let files = [("a.toml", with_keys(&[1], "")), ("b.toml", with_keys(&[2], ""))];
    let (first, second) = (directory(&files), directory(&files));
    let digest = load(&first).unwrap().digest();
    assert_eq!(digest, load(&second).unwrap().digest());
    assert_eq!(digest.len(), 16);
    fs::rename(second.path().join("b.toml"), second.path().join("c.toml")).unwrap();
    assert_ne!(digest, load(&second).unwrap().digest());
}
