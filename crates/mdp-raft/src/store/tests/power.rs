//! The power goes at any moment: what was answered is there, and nothing that was never written.

use std::{
    any::Any,
    io,
    sync::{Mutex, MutexGuard},
};

use openraft::type_config::TypeConfigExt as _;
use tokio::task::JoinSet;

use super::{damage::Numbers, *};
use crate::VolumeFile;

/// How often the power goes.
const ROUNDS: usize = 300;
/// Disks write sectors whole.
const SECTOR_BYTES: usize = 512;

/// A disk that forgets what was not synced.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    /// As the program sees it.
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Operation>,
    /// How many more operations there will be.
    operations_left: usize,
}

#[derive(Debug)]
enum Operation {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Disk {
    fn new(operations: usize) -> Self {
        let platter =
            Platter { now: vec![], synced: vec![], unsynced: vec![], operations_left: operations };
        Self(Arc::new(Mutex::new(platter)))
    }

    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = lock(&self.0);
        let left = platter.operations_left.checked_sub(1);
        platter.operations_left = left.ok_or_else(|| io::Error::other("no power"))?;
        Ok(platter)
    }

    /// What is on it when the power is back: all that was synced, and some of the rest.
    fn after_power_loss(&self, numbers: &mut Numbers) -> Vec<u8> {
        let platter = lock(&self.0);
        let mut bytes = platter.synced.clone();
        // File systems keep lengths in order; of the contents, any sector may be missing.
        let last_length = numbers.below(platter.unsynced.len() + 1);
        for (number, operation) in platter.unsynced.iter().enumerate() {
            match operation {
                Operation::Length(length) if number < last_length => bytes.resize(*length, 0),
                Operation::Bytes(start, data) => write_some(&mut bytes, *start, data, numbers),
                Operation::Length(_) => {}
            }
        }
        bytes
    }
}

/// Writes two of three sectors, if the file has them.
fn write_some(bytes: &mut [u8], start: usize, data: &[u8], numbers: &mut Numbers) {
    for (start, data) in (start..).step_by(SECTOR_BYTES).zip(data.chunks(SECTOR_BYTES)) {
        let place = bytes.get_mut(start..start + data.len());
        if let Some(place) = place.filter(|_| numbers.below(3) > 0) {
            place.copy_from_slice(data);
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A directory with its database on such a disk.
#[derive(Debug)]
struct Machine {
    directory: Arc<Directory>,
    disk: Disk,
}

impl Volume for Machine {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.directory.lock()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>> {
        // The name of the database stands in the directory, too.
        let file = self.directory.open(name)?;
        if name == DATABASE_FILE {
            return Ok(Box::new(self.disk.clone()));
        }
        Ok(file)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_names()
    }
}

impl VolumeFile for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).now.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = lock(&self.0);
        let start = size(offset);
        out.copy_from_slice(&platter.now[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter()?;
        let length = size(len);
        platter.now.resize(length, 0);
        platter.unsynced.push(Operation::Length(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.synced = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter()?;
        let start = size(offset);
        platter.now[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push(Operation::Bytes(start, data.to_vec()));
        Ok(())
    }
}

/// Writes until the power goes, and returns how many entries and which vote were answered.
async fn write_until_power_loss(opened: &mut Opened) -> (u64, u64) {
    let mut callbacks = JoinSet::new();
    let (mut votes, mut purged) = (0, false);
    for index in 0..400 {
        let (sender, receiver) = TypeConfig::<Tokio>::oneshot();
        let callback = openraft::storage::IOFlushed::signal(sender);
        if opened.log().append([blank(1, index)], callback).await.is_err() {
            break;
        }
        callbacks.spawn(async move { matches!(receiver.await, Ok(Ok(()))).then_some(index + 1) });
        if index % 7 == 0 && opened.log().save_vote(&vote(index)).await.is_ok() {
            votes = index;
        }
        if index == 40 {
            let snapshot = snapshot(log_id(1, 30), &Catalog::new());
            purged = opened.snapshots.save(snapshot).await.is_ok();
        }
        if purged && index == 45 && opened.log().purge(log_id(1, 30)).await.is_err() {
            break;
        }
    }
    let answered = callbacks.join_all().await.into_iter().flatten().max().unwrap_or(0);
    (answered, votes)
}

#[tokio::test]
async fn power_loss_at_any_moment_loses_nothing_that_was_answered() {
    let mut numbers = Numbers(10);
    for round in 0..ROUNDS {
        let dir = directory();
        // A new directory takes some thirty operations.
        let disk = Disk::new(40 + numbers.below(1_500));
        let machine = Machine { directory: volume(dir.path()), disk: disk.clone() };
        let mut opened = Store::open::<Tokio>(dir.path(), Arc::new(machine), &name()).unwrap();
        let identity = opened.identity.identity();

        let (answered, voted) = write_until_power_loss(&mut opened).await;
        drop(opened.log.close().await);

        let [_, (_, newest)] = files(dir.path());
        // The watermark was synced once, when the directory was new.
        let watermark = if numbers.below(2) == 0 { newest } else { codec_watermark(1) };
        let image = disk.after_power_loss(&mut numbers);
        let image =
            [(PathBuf::from(DATABASE_FILE), image), (PathBuf::from(WATERMARK_FILE), watermark)];
        write(dir.path(), &image);
        let mut opened =
            open_as(dir.path(), &name()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let state = opened.log().get_log_state().await.unwrap();
        let next = state.last_log_id.map_or(0, |last| last.index + 1);
        assert!((answered..=400).contains(&next), "round {round}: {next} of {answered}");
        let saved = opened.log().read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
        assert!(saved >= voted, "round {round}: vote {saved} of {voted}");
        assert_eq!(opened.identity.identity(), identity);
    }
}
