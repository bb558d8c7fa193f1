//! Guests, built once for a whole test run by the script that users call too.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The module of a guest of `guest-examples/`.
pub fn example(name: &str) -> PathBuf {
    built("guest-examples", name)
}

/// The module of a misbehaving guest of `tests/guests/`.
pub fn test_guest(name: &str) -> PathBuf {
    built("tests/guests", name)
}

fn built(folder: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    BUILT.get_or_init(|| {
        let output = Command::new(root.join("guest-examples/build.sh")).arg("--tests").output().expect("bash is there");
        assert!(output.status.success(), "guests do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    });
    let dist = root.join(folder).join("dist");
    let binary = dist.join(format!("{name}.wasm"));
    if binary.exists() { binary } else { dist.join(format!("{name}.wat")) }
}
