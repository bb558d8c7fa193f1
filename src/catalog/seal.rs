//! Secrets at rest: sealed before they enter a record, opened when one is read. The key lives in a file of its own that only
//! the owner may read, so that a copy of the store alone tells nothing.
//!
//! XChaCha20-Poly1305 with a random nonce of 24 bytes, which never repeats in practice. A sealed value is bound to its worker
//! and its binding: moved to another place in the store it does not open.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Error;
use crate::domain::config::SecretText;
use crate::domain::id::{BindingName, WorkerName};

/// The key's file in the data folder.
pub const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Seals and opens values with one key.
pub(super) struct Sealer(XChaCha20Poly1305);

/// A sealed value does not open: damage, another key, or another place than it was sealed for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sealed secret `{0}` does not open with this node's `{KEY_FILE}`")]
pub struct Unopened(pub(super) String);

/// Whether a missing key may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfMissing {
    Make,
    Refuse,
}

impl Sealer {
    /// The key of `data_dir`.
    pub(super) fn open(data_dir: &Path, if_missing: IfMissing) -> Result<Self, Error> {
        let path = data_dir.join(KEY_FILE);
        let key = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && if_missing == IfMissing::Make => {
                make_key(data_dir, &path)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::KeyMissing { path }),
            Err(source) => return Err(Error::Io { attempt: "read", path, source }),
        };
        keep_private(&path)?;
        match Key::try_from(key.as_slice()) {
            Ok(key) => Ok(Self(XChaCha20Poly1305::new(&key))),
            Err(_) => Err(Error::KeyDamaged { path, bytes: key.len() }),
        }
    }

    /// The sealed form: nonce and ciphertext, in hexadecimal.
    pub(super) fn seal(&self, worker: &WorkerName, binding: &BindingName, value: &SecretText) -> Result<String, Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|source| Error::Random { source })?;
        let place = place(worker, binding);
        let payload = Payload { msg: value.reveal().as_bytes(), aad: &place };
        // It fails only for messages of 256 GiB.
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        Ok(hex::encode(nonce) + &hex::encode(sealed))
    }

    /// The value that [`Self::seal`] was given.
    pub(super) fn unseal(
        &self,
        worker: &WorkerName,
        binding: &BindingName,
        sealed: &str,
    ) -> Result<SecretText, Unopened> {
        let unopened = || Unopened(binding.to_string());
        let bytes = hex::decode(sealed).map_err(|_| unopened())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(unopened)?;
        let place = place(worker, binding);
        let value = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &place });
        let text = String::from_utf8(value.map_err(|_| unopened())?).map_err(|_| unopened())?;
        Ok(SecretText::new(text))
    }
}

/// What a sealed value is bound to. Neither name can hold a zero byte.
fn place(worker: &WorkerName, binding: &BindingName) -> Vec<u8> {
    [worker.as_str().as_bytes(), &[0], binding.as_str().as_bytes()].concat()
}

/// A new key, whole or not there at all: written beside, synced, renamed.
fn make_key(data_dir: &Path, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    getrandom::fill(&mut key).map_err(|source| Error::Random { source })?;
    let beside: PathBuf = data_dir.join(format!("{KEY_FILE}.new"));
    let write = || {
        fs::create_dir_all(data_dir)?;
        let _ = fs::remove_file(&beside);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        super::modules::sync_dir(data_dir)
    };
    write().map_err(|source| Error::Io { attempt: "make", path: path.to_owned(), source })?;
    Ok(key)
}

/// Takes the key away from everyone but its owner, if a copy or a backup has opened it up.
fn keep_private(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let tighten = || {
            let mode = fs::metadata(path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others could read the key of the secrets; closed it");
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            }
            Ok(())
        };
        tighten().map_err(|source| Error::Io { attempt: "close to others", path: path.to_owned(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (WorkerName, BindingName) {
        ("w".parse().unwrap(), "KEY".parse().unwrap())
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_place_and_with_its_key() {
        let (worker, binding) = names();
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let secret = SecretText::new("hunter2 é".into());
        let sealed = sealer.seal(&worker, &binding, &secret).unwrap();
        assert!(!sealed.contains(&hex::encode("hunter2")));
        assert_ne!(sealed, sealer.seal(&worker, &binding, &secret).unwrap(), "a nonce was used twice");

        let again = Sealer::open(dir.path(), IfMissing::Refuse).unwrap();
        assert_eq!(again.unseal(&worker, &binding, &sealed).unwrap(), secret);
        assert!(again.unseal(&"v".parse().unwrap(), &binding, &sealed).is_err());
        assert!(again.unseal(&worker, &"OTHER".parse().unwrap(), &sealed).is_err());
        let mut damaged = sealed.clone();
        damaged.replace_range(60..61, if &sealed[60..61] == "0" { "1" } else { "0" });
        for text in [damaged.as_str(), "", "zz", "00", &sealed[..48]] {
            assert_eq!(again.unseal(&worker, &binding, text), Err(Unopened("KEY".into())));
        }
        let foreign = tempfile::tempdir().unwrap();
        let foreign = Sealer::open(foreign.path(), IfMissing::Make).unwrap();
        assert!(foreign.unseal(&worker, &binding, &sealed).is_err());
    }

    #[test]
    fn a_missing_key_is_never_made_up_for_what_was_sealed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Sealer::open(dir.path(), IfMissing::Refuse), Err(Error::KeyMissing { .. })));
        fs::write(dir.path().join(KEY_FILE), [1; 31]).unwrap();
        assert!(matches!(Sealer::open(dir.path(), IfMissing::Make), Err(Error::KeyDamaged { bytes: 31, .. })));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode() & 0o777;
        Sealer::open(dir.path(), IfMissing::Make).unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(dir.path().join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        Sealer::open(dir.path(), IfMissing::Make).unwrap();
        assert_eq!(mode(), 0o600);
    }
}
