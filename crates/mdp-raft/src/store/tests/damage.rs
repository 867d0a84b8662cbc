//! Bits flip, files lose their end: the directory is refused, or all is as it was.

use super::*;

/// How many bits are flipped in a random place of each of two directories.
const FLIPS: usize = 900;
/// How many lengths a file is cut to.
const CUTS: usize = 150;

/// Numbers that are the same in every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A directory as it is after a close, and one as it is after a crash.
async fn images() -> [[(PathBuf, Vec<u8>); 2]; 2] {
    let dir = directory();
    let mut opened = open(dir.path());
    fill(&mut opened).await;
    let crashed = files(dir.path());
    opened.log.close().await.unwrap();
    [files(dir.path()), crashed]
}

/// Opens a damaged directory, and counts those that were refused.
struct Opener {
    dir: TempDir,
    expected: String,
    refused: usize,
}

impl Opener {
    fn new(image: &[(PathBuf, Vec<u8>)]) -> Self {
        let dir = directory();
        write(dir.path(), image);
        let expected = kept(dir.path()).unwrap();
        Self { dir, expected, refused: 0 }
    }

    fn open(&mut self, image: &[(PathBuf, Vec<u8>)], what: &str) {
        write(self.dir.path(), image);
        match kept(self.dir.path()) {
            Ok(kept) => assert_eq!(kept, self.expected, "{what}"),
            Err(error) => {
                assert!(matches!(error, StorageError::Corrupt { .. }), "{what}: {error}");
                self.refused += 1;
            }
        }
    }
}

#[tokio::test]
async fn flipped_bit_is_found_or_harmless() {
    let mut numbers = Numbers(7);
    for image in images().await {
        let mut opener = Opener::new(&image);
        let (database_bytes, watermark_bytes) = (image[0].1.len(), image[1].1.len());
        let mut places: Vec<(usize, usize)> = (0..watermark_bytes).map(|byte| (1, byte)).collect();
        // The head of the database has both commit slots.
        places.extend((0..320).map(|byte| (0, byte)));
        places.extend((0..FLIPS).map(|_| (0, numbers.below(database_bytes))));
        for (file, byte) in places {
            let bit = numbers.below(8);
            let mut flipped = image.clone();
            flipped[file].1[byte] ^= 1 << bit;
            opener.open(&flipped, &format!("bit {bit} of byte {byte} of file {file}"));
        }
        assert!(opener.refused > watermark_bytes + 100, "refused {}", opener.refused);
    }
}

#[tokio::test]
async fn shortened_file_is_found() {
    let mut numbers = Numbers(8);
    for image in images().await {
        let mut opener = Opener::new(&image);
        for cut in 0..CUTS {
            let file = cut % 2;
            let length = numbers.below(image[file].1.len());
            let mut shortened = image.clone();
            shortened[file].1.truncate(length);
            opener.open(&shortened, &format!("file {file} cut to {length} bytes"));
        }
        assert_eq!(opener.refused, CUTS);
    }
}

#[tokio::test]
async fn destroyed_page_is_found_or_harmless() {
    let mut numbers = Numbers(9);
    for image in images().await {
        let mut opener = Opener::new(&image);
        for page in 0..image[0].1.len() / 4096 {
            let mut destroyed = image.clone();
            for byte in &mut destroyed[0].1[page * 4096..(page + 1) * 4096] {
                *byte = u8::try_from(numbers.below(256)).unwrap();
            }
            opener.open(&destroyed, &format!("page {page}"));
        }
        assert!(opener.refused > 5, "refused {}", opener.refused);
    }
}

#[tokio::test]
async fn missing_file_is_found() {
    for image in images().await {
        for missing in 0..2 {
            let dir = directory();
            write(dir.path(), &image[1 - missing..2 - missing]);

            let error = kept(dir.path()).unwrap_err();

            let missing = image[missing].0.display();
            let expected = format!("{missing} is damaged: it is missing or empty");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}

#[tokio::test]
async fn commits_that_were_promised_and_are_lost_are_found() {
    let dir = directory();
    let mut opened = open(dir.path());
    fill(&mut opened).await;
    let [before, _] = files(dir.path());
    opened.log().save_vote(&vote(4)).await.unwrap();
    opened.log().blocking_append([blank(4, 62)]).await.unwrap();
    let [_, promised] = files(dir.path());

    let rolled_back = directory();
    write(rolled_back.path(), &[before, promised]);
    let error = kept(rolled_back.path()).unwrap_err();

    assert!(error.to_string().contains("raft.redb is damaged: its last 2 commits are lost"));
    // Opening it changed the file; that must not make it good.
    kept(rolled_back.path()).unwrap_err();
}

#[tokio::test]
async fn crash_in_the_middle_of_a_commit_goes_back_to_the_one_before() {
    let dir = directory();
    let mut opened = open(dir.path());
    fill(&mut opened).await;
    let [_, promised] = files(dir.path());
    let before = Opener::new(&files(dir.path())).expected;
    opened.log().save_vote(&vote(4)).await.unwrap();
    let [unfinished, _] = files(dir.path());
    let after = Opener::new(&[unfinished.clone(), promised.clone()]).expected;

    // What a commit writes last is its slot in the head of the file.
    let mut went_back = 0;
    for byte in 64..320 {
        let torn = directory();
        let mut image = [unfinished.clone(), promised.clone()];
        image[0].1[byte] ^= 0x10;
        write(torn.path(), &image);
        match kept(torn.path()) {
            Ok(kept) if kept == before => went_back += 1,
            Ok(kept) => assert_eq!(kept, after, "byte {byte}"),
            Err(error) => assert!(matches!(error, StorageError::Corrupt { .. }), "{error}"),
        }
    }

    assert!(went_back > 50, "{went_back}");
}

#[tokio::test]
async fn log_with_a_hole_is_refused() {
    let dir = directory();
    let mut opened = open(dir.path());
    opened.log().blocking_append([blank(1, 0), blank(1, 1), blank(1, 3)]).await.unwrap();
    opened.log.close().await.unwrap();

    let error = kept(dir.path()).unwrap_err();

    assert!(error.to_string().contains("entry 2 of the log is missing"), "{error}");
}

#[test]
fn record_of_a_newer_version_is_said_to_be_newer() {
    let dir = directory();
    let (mut database, _) =
        Database::open::<Tokio>(dir.path(), volume(dir.path()), &name()).unwrap();
    let newer = mdp_wire::codec::encode(mdp_wire::codec::Kind::LogEntry, 2, &7_u64).unwrap();
    let record = mdp_wire::codec::seal(newer);
    database.commit(&[database::Change::Append(vec![(0, record)])]).unwrap();
    database.close().unwrap();

    let error = kept(dir.path()).unwrap_err();

    assert!(matches!(error, StorageError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("entry 0 of the log: format 2 of LogEntry"), "{error}");
}
