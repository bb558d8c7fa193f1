//! The files of the artifact cache: written whole or not at all, and checked when they are read.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an artifact that are in memory while it is checked.
const CHECKED_AT_ONCE: usize = 256 * 1024;

/// A folder of artifacts, each with its seal, and of notes about them.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
}

/// What stands beside an artifact: `<length> <checksum> <tag>`.
#[derive(Debug, PartialEq, Eq)]
struct Seal {
    len: u64,
    checksum: u32,
    tag: String,
}

impl Shelf {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Where an artifact is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.file(name, "cwasm")
    }

    fn file(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("{name}.{suffix}"))
    }

    /// Whether there is an artifact of that name that is as it was written.
    pub(super) fn is_sound(&self, name: &str) -> bool {
        let (Some(seal), Ok(mut file)) = (self.seal(name), File::open(self.path(name))) else { return false };
        let sound = checksum_of(&mut file).is_ok_and(|found| found == (seal.len, seal.checksum));
        if !sound {
            tracing::warn!(path = %self.path(name).display(), "the compiled artifact is damaged; it is made again");
        }
        sound
    }

    /// The bytes of a sound artifact with that tag.
    pub(super) fn read_tagged(&self, name: &str, tag: &str) -> Option<Vec<u8>> {
        let seal = self.seal(name).filter(|seal| seal.tag == tag)?;
        let bytes = fs::read(self.path(name)).ok()?;
        (Seal::of(&bytes, tag) == seal).then_some(bytes)
    }

    /// Whether the file of that name has been written with these bytes.
    pub(super) fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        let len = fs::metadata(self.path(name)).map(|metadata| metadata.len());
        len.is_ok_and(|len| len == bytes.len() as u64) && self.is_sound(name)
    }

    /// Writes an artifact, then its seal.
    pub(super) fn write(&self, name: &str, tag: &str, bytes: &[u8]) -> io::Result<()> {
        write_whole(&self.path(name), bytes)?;
        write_whole(&self.file(name, "seal"), Seal::of(bytes, tag).to_string().as_bytes())
    }

    /// What was noted under that name, if it is as it was written.
    pub(super) fn read_note(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.file(name, "note")).ok()?;
        let (checksum, note) = text.split_once('\n')?;
        (u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(note.as_bytes())).then(|| note.to_owned())
    }

    pub(super) fn write_note(&self, name: &str, note: &str) -> io::Result<()> {
        let text = format!("{:08x}\n{note}", crc32fast::hash(note.as_bytes()));
        write_whole(&self.file(name, "note"), text.as_bytes())
    }

    fn seal(&self, name: &str) -> Option<Seal> {
        fs::read_to_string(self.file(name, "seal")).ok()?.parse().ok()
    }
}

impl Seal {
    fn of(bytes: &[u8], tag: &str) -> Self {
        Self { len: bytes.len() as u64, checksum: crc32fast::hash(bytes), tag: tag.to_owned() }
    }
}

impl std::fmt::Display for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {:08x} {}", self.len, self.checksum, self.tag)
    }
}

impl std::str::FromStr for Seal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split_whitespace();
        let mut part = || parts.next().unwrap_or_default();
        Ok(Self {
            len: part().parse().map_err(drop)?,
            checksum: u32::from_str_radix(part(), 16).map_err(drop)?,
            tag: part().to_owned(),
        })
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

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp-{}-{unique}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&temporary, path)
}
