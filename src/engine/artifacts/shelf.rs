//! The files of the artifact cache: written whole or not at all, checked when they are read, and no more than the limit.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::{Clock as _, SystemClock};

/// Bytes of an artifact that are in memory while it is checked.
const CHECKED_AT_ONCE: usize = 256 * 1024;

/// A file that is being written is not older than this; what is older was left behind.
const WRITING_MAX: Duration = Duration::from_secs(60 * 60);
/// Artifacts from this size on are checked once, as long as nobody changes them; smaller ones each time.
const CHECKED_ONCE_BYTES_MIN: u64 = 1024 * 1024;
/// Room is made for some more at once, since making it reads the whole folder.
const ROOM_MADE: u64 = 10;

const CODE: &str = "cwasm";
/// Its time of change says when the artifact was last used.
const SEAL: &str = "seal";
const NOTE: &str = "note";

/// A folder of artifacts, each with its seal, and of notes about them.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    bytes_max: u64,
    /// Bytes in the folder as far as is known: what has been written since they were last counted comes on top.
    bytes: AtomicU64,
    /// Large artifacts that this process has checked, as they were then, beside those whose seal says so: reading one again is
    /// most of what it takes to wake a version.
    checked: Mutex<HashMap<String, Stamp>>,
}

/// A file as it was at one moment: whoever changes it changes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    inode: u64,
    changed: (i64, i64),
}

/// How much an artifact is needed: the least needed goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// By nobody, and not used for long: it goes although there is room.
    Stale,
    Some,
    /// By traffic: without it a request waits for the compiler.
    Traffic,
}

/// What is in the folder under one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) name: String,
    bytes: u64,
    /// Unix time in milliseconds.
    pub(super) used_ms: u64,
    files: Vec<PathBuf>,
    is_whole: bool,
}

/// What was done to keep within the limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tidied {
    /// Artifacts removed, and how many of them traffic needs.
    pub(super) removed: usize,
    pub(super) needed: usize,
    /// Bytes that are left.
    pub(super) bytes: u64,
}

/// What stands beside an artifact: `<length> <checksum> <tag>`, and on a second line, of a large one, `<inode> <seconds> <nanoseconds>`:
/// its file as it was when it had just been written.
#[derive(Debug, PartialEq, Eq)]
struct Seal {
    len: u64,
    checksum: u32,
    tag: String,
    /// None also if the artifacts were sealed by an earlier Sluice.
    stamp: Option<Stamp>,
}

impl Shelf {
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, bytes_max, bytes: AtomicU64::new(0), checked: Mutex::default() })
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Where an artifact is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.file(name, CODE)
    }

    fn file(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("{name}.{suffix}"))
    }

    /// Whether there is an artifact of that name that is as it was written. It counts as used.
    pub(super) fn is_sound(&self, name: &str) -> bool {
        let (Some(seal), Ok(mut file)) = (self.seal(name), File::open(self.path(name))) else { return false };
        let stamp = Stamp::of_large(&file);
        let was_sound = stamp.is_some() && (seal.stamp == stamp || self.checked().get(name) == stamp.as_ref());
        if !was_sound && !checksum_of(&mut file).is_ok_and(|found| found == (seal.len, seal.checksum)) {
            tracing::warn!(path = %self.path(name).display(), "the compiled artifact is damaged; it is made again");
            return false;
        }
        if let (Some(stamp), false) = (stamp, was_sound) {
            self.checked().insert(name.to_owned(), stamp);
        }
        let now = UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms());
        if let Err(error) = File::open(self.file(name, SEAL)).and_then(|file| file.set_modified(now)) {
            tracing::debug!(artifact = name, %error, "when the artifact was used could not be kept");
        }
        true
    }

    /// The bytes of a sound artifact with that tag.
    pub(super) fn read_tagged(&self, name: &str, tag: &str) -> Option<Vec<u8>> {
        let seal = self.seal(name).filter(|seal| seal.tag == tag)?;
        let bytes = fs::read(self.path(name)).ok()?;
        seal.fits(&bytes).then_some(bytes)
    }

    /// Whether the file of that name has been written with these bytes.
    pub(super) fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        let len = fs::metadata(self.path(name)).map(|metadata| metadata.len());
        len.is_ok_and(|len| len == bytes.len() as u64) && self.is_sound(name)
    }

    /// Writes an artifact, then its seal.
    pub(super) fn write(&self, name: &str, tag: &str, bytes: &[u8]) -> io::Result<()> {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let path = self.path(name);
        write_whole(&path, bytes)?;
        let stamp = File::open(&path).ok().and_then(|file| Stamp::of_large(&file));
        write_whole(&self.file(name, SEAL), Seal::of(bytes, tag, stamp).to_string().as_bytes())
    }

    /// What was noted under that name, and of which artifact, if it is as it was written.
    pub(super) fn read_note(&self, name: &str) -> Option<(String, String)> {
        let text = fs::read_to_string(self.file(name, NOTE)).ok()?;
        let (checksum, rest) = text.split_once('\n')?;
        let (artifact, note) = rest.split_once('\n')?;
        let is_sound = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(rest.as_bytes());
        is_sound.then(|| (artifact.to_owned(), note.to_owned()))
    }

    /// Notes something of an artifact; the note goes with it.
    pub(super) fn write_note(&self, name: &str, artifact: &str, note: &str) -> io::Result<()> {
        let rest = format!("{artifact}\n{note}");
        write_whole(&self.file(name, NOTE), format!("{:08x}\n{rest}", crc32fast::hash(rest.as_bytes())).as_bytes())
    }

    /// Whether more has been written than the limit allows, as far as is known.
    pub(super) fn is_over_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }

    /// Removes what was left behind and what is stale; then, if there is more than the limit allows, what is needed least, and of
    /// that what was used longest ago.
    ///
    /// # Errors
    /// If the folder cannot be read. A file that cannot be removed is left, and said so in the log.
    pub(super) fn tidy(&self, need: impl Fn(&Entry) -> Need) -> io::Result<Tidied> {
        let written = self.bytes.load(Ordering::Relaxed);
        let (entries, notes) = self.entries()?;
        let mut entries: Vec<(Need, Entry)> = entries.into_iter().map(|entry| (need(&entry), entry)).collect();
        entries.sort_by(|(a_need, a), (b_need, b)| (a_need, a.used_ms).cmp(&(b_need, b.used_ms)));
        let mut tidied = Tidied { bytes: entries.iter().map(|(_, entry)| entry.bytes).sum(), ..Tidied::default() };
        let is_over_full = tidied.bytes > self.bytes_max;
        let enough = self.bytes_max - self.bytes_max / ROOM_MADE;
        let mut left = HashSet::new();
        for (need, entry) in entries {
            if need != Need::Stale && !(is_over_full && tidied.bytes > enough) {
                left.insert(entry.name);
                continue;
            }
            entry.files.iter().for_each(|path| remove(path));
            tidied.removed += 1;
            tidied.needed += usize::from(need == Need::Traffic);
            tidied.bytes -= entry.bytes;
        }
        self.checked().retain(|name, _| left.contains(name));
        for name in notes {
            if self.read_note(&name).is_none_or(|(artifact, _)| !left.contains(&artifact)) {
                remove(&self.file(&name, NOTE));
            }
        }
        // What was written meanwhile may have been counted already; then it counts twice until the next time.
        let since = self.bytes.load(Ordering::Relaxed).saturating_sub(written);
        self.bytes.store(tidied.bytes + since, Ordering::Relaxed);
        Ok(tidied)
    }

    /// The artifacts that there are, without those being written, and the names of notes. Removes what was left behind half.
    fn entries(&self) -> io::Result<(Vec<Entry>, Vec<String>)> {
        let (mut entries, mut notes) = (HashMap::<String, Entry>::new(), Vec::new());
        let now_ms = SystemClock.now_ms();
        let is_old = |used_ms: u64| now_ms.saturating_sub(used_ms) > WRITING_MAX.as_millis() as u64;
        for file in fs::read_dir(&self.folder)? {
            let (path, metadata) = match file.and_then(|file| Ok((file.path(), file.metadata()?))) {
                Ok(file) => file,
                // Renamed or removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let Some((name, suffix)) = path.file_name().and_then(|name| name.to_str()?.rsplit_once('.')) else {
                continue;
            };
            let changed_ms = changed_ms(&metadata);
            match suffix {
                CODE | SEAL => {
                    let entry = entries.entry(name.to_owned()).or_default();
                    entry.bytes += metadata.len();
                    entry.is_whole = !entry.files.is_empty();
                    entry.used_ms = entry.used_ms.max(changed_ms);
                    entry.files.push(path);
                }
                NOTE => notes.push(name.to_owned()),
                _ if suffix.starts_with("tmp-") && is_old(changed_ms) => remove(&path),
                _ => {}
            }
        }
        let mut whole = Vec::with_capacity(entries.len());
        for (name, mut entry) in entries {
            if entry.is_whole {
                entry.name = name;
                whole.push(entry);
            } else if is_old(entry.used_ms) {
                entry.files.iter().for_each(|path| remove(path));
            }
        }
        Ok((whole, notes))
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<String, Stamp>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self, name: &str) -> Option<Seal> {
        fs::read_to_string(self.file(name, SEAL)).ok()?.parse().ok()
    }
}

impl Stamp {
    /// Of a file that is worth it.
    fn of_large(file: &File) -> Option<Self> {
        Self::of(file).filter(|stamp| stamp.len >= CHECKED_ONCE_BYTES_MIN)
    }

    #[cfg(unix)]
    fn of(file: &File) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let metadata = file.metadata().ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { len: metadata.len(), inode: metadata.ino(), changed })
    }

    #[cfg(not(unix))]
    fn of(_: &File) -> Option<Self> {
        None
    }

    fn parse(line: &str, len: u64) -> Option<Self> {
        let mut parts = line.split_whitespace();
        let inode = parts.next()?.parse().ok()?;
        let changed = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { len, inode, changed })
    }
}

impl Seal {
    fn of(bytes: &[u8], tag: &str, stamp: Option<Stamp>) -> Self {
        // Somebody else's file by now; it is checked when it is read.
        let stamp = stamp.filter(|stamp| stamp.len == bytes.len() as u64);
        Self { len: bytes.len() as u64, checksum: crc32fast::hash(bytes), tag: tag.to_owned(), stamp }
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        (self.len, self.checksum) == (bytes.len() as u64, crc32fast::hash(bytes))
    }
}

impl std::fmt::Display for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {:08x} {}", self.len, self.checksum, self.tag)?;
        match self.stamp {
            Some(Stamp { inode, changed: (seconds, nanoseconds), .. }) => {
                writeln!(f, "{inode} {seconds} {nanoseconds}")
            }
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Seal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut lines = text.lines();
        let mut parts = lines.next().unwrap_or_default().split_whitespace();
        let mut part = || parts.next().unwrap_or_default();
        let len = part().parse().map_err(drop)?;
        let checksum = u32::from_str_radix(part(), 16).map_err(drop)?;
        let tag = part().to_owned();
        let stamp = lines.next().and_then(|line| Stamp::parse(line, len));
        Ok(Self { len, checksum, tag, stamp })
    }
}

/// Length and checksum of what is in a file.
fn checksum_of(file: &mut File) -> io::Result<(u64, u32)> {
    let (mut hasher, mut len, mut chunk) = (crc32fast::Hasher::new(), 0, vec![0; CHECKED_AT_ONCE]);
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok((len, hasher.finalize()));
        }
        hasher.update(&chunk[..count]);
        len += count as u64;
    }
}

fn changed_ms(metadata: &Metadata) -> u64 {
    let since_epoch = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    u64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a compiled artifact");
        }
        _ => {}
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp-{}-{unique}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ARTIFACT_BYTES: usize = 1000;

    /// Makes everything on the shelf that much older.
    pub(in super::super) fn age(shelf: &Shelf, seconds: u64) {
        for file in fs::read_dir(&shelf.folder).unwrap() {
            let path = file.unwrap().path();
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            File::open(path).unwrap().set_modified(changed - Duration::from_secs(seconds)).unwrap();
        }
    }

    /// A shelf with room for five artifacts and the artifacts `a`, `b`…, used in this order.
    fn shelf(folder: &Path, count: u8) -> Shelf {
        let shelf = Shelf::open(folder.to_owned(), 5 * (ARTIFACT_BYTES as u64 + 100)).unwrap();
        for n in 0..count {
            age(&shelf, 10);
            shelf.write(&char::from(b'a' + n).to_string(), "", &[n; ARTIFACT_BYTES]).unwrap();
        }
        shelf
    }

    fn names(shelf: &Shelf) -> String {
        let mut names: Vec<String> = shelf.entries().unwrap().0.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names.concat()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_has_to() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), 6);
        assert!(shelf.is_over_full());
        age(&shelf, 10);
        assert!(shelf.is_sound("a"), "and so it is used");
        let tidied = shelf.tidy(|_| Need::Some).unwrap();
        assert_eq!((names(&shelf).as_str(), tidied.removed, tidied.needed), ("adef", 2, 0));
        assert!(!shelf.is_over_full() && tidied.bytes <= shelf.bytes_max);
        assert_eq!(shelf.tidy(|_| Need::Some).unwrap().removed, 0);
    }

    #[test]
    fn a_large_artifact_is_checked_again_once_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned(), u64::MAX).unwrap();
        let mut bytes = vec![7; CHECKED_ONCE_BYTES_MIN as usize];
        shelf.write("a", "", &bytes).unwrap();
        // What stands in the seal is enough: nothing was read.
        assert!(shelf.is_sound("a") && shelf.checked().is_empty());
        let stamp = || Stamp::of(&File::open(shelf.path("a")).unwrap());
        let before = stamp();
        bytes[99] ^= 1;
        // A clock that ticks slowly shows a change late.
        while stamp() == before {
            fs::write(shelf.path("a"), &bytes).unwrap();
        }
        assert!(!shelf.is_sound("a"));
        bytes[99] ^= 1;
        fs::write(shelf.path("a"), &bytes).unwrap();
        assert!(shelf.is_sound("a") && shelf.is_sound("a"));
        assert_eq!(shelf.checked().len(), 1);
        // To who comes later it is a file that its seal does not know.
        let later = Shelf::open(folder.path().to_owned(), u64::MAX).unwrap();
        assert!(later.is_sound("a") && later.checked().len() == 1);
    }

    #[test]
    fn a_seal_without_a_stamp_is_one_still() {
        let stamp = Stamp { len: 5, inode: 7, changed: (-1, 2) };
        for seal in [
            Seal { len: 5, checksum: 9, tag: String::new(), stamp: Some(stamp) },
            Seal { len: 5, checksum: 9, tag: "t".into(), stamp: None },
        ] {
            assert_eq!(seal.to_string().parse(), Ok(seal));
        }
        let earlier: Seal = "5 00000009 \n".parse().unwrap();
        assert_eq!((earlier.checksum, earlier.stamp), (9, None));
    }

    #[test]
    fn what_traffic_needs_goes_last_but_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), 7);
        let tidied = shelf.tidy(|entry| if *entry.name < *"f" { Need::Traffic } else { Need::Some }).unwrap();
        assert_eq!((names(&shelf).as_str(), tidied.removed, tidied.needed), ("bcde", 3, 1));
    }

    #[test]
    fn what_is_stale_goes_while_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), 3);
        shelf.tidy(|entry| if entry.name == "b" { Need::Stale } else { Need::Some }).unwrap();
        assert_eq!(names(&shelf), "ac");
    }

    #[test]
    fn a_note_goes_with_its_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), 2);
        shelf.write_note("of-a", "a", "x").unwrap();
        shelf.write_note("of-b", "b", "y\nz").unwrap();
        shelf.tidy(|entry| if entry.name == "a" { Need::Stale } else { Need::Some }).unwrap();
        assert_eq!(shelf.read_note("of-a"), None);
        assert_eq!(shelf.read_note("of-b"), Some(("b".into(), "y\nz".into())));
    }

    #[test]
    fn what_was_left_behind_goes_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), 1);
        let file = |name: &str| folder.path().join(name);
        for name in ["b.tmp-1-1", "half.cwasm", "other.seal", "README.md", "plain"] {
            fs::write(file(name), "x").unwrap();
        }
        shelf.tidy(|_| Need::Some).unwrap();
        assert!(file("b.tmp-1-1").exists() && file("half.cwasm").exists(), "both may be under way");
        age(&shelf, 2 * 3600);
        shelf.tidy(|_| Need::Some).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["README.md", "a.cwasm", "a.seal", "plain"]);
    }
}
