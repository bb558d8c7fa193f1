//! The command line that does what a button does: to be copied into a script, or to learn it by. Pure.

use maud::{Markup, html};

use crate::catalog::{Force, WorkerView};
use crate::dashboard::parts;
use crate::dashboard::worker::wish::{Update, Wish};
use crate::domain::id::VersionId;

/// The shortest beginning of an id that the command line takes for one.
const PREFIX_MIN: usize = 4;

/// A command as pages show it, with a button that copies it.
#[must_use]
pub fn shown(command: &str) -> Markup {
    html! { div.command { code { (command) } (parts::copy(command, "command")) } }
}

/// `sluice versions deploy` for a wish. None if its shares are no numbers.
#[must_use]
pub fn deploy(worker: &WorkerView, wish: &Wish) -> Option<String> {
    let entries = wish.entries().ok()?;
    let specs = entries.iter().map(|(id, share)| format!("{}@{share}", name(worker, *id)));
    let words = ["sluice", "versions", "deploy"].map(str::to_owned).into_iter().chain(specs);
    Some(words.chain(options(worker, wish)).collect::<Vec<_>>().join(" "))
}

/// `sluice rollback` for a wish that gives everything to one version; else it is a deployment like any other.
#[must_use]
pub fn rollback(worker: &WorkerView, wish: &Wish) -> Option<String> {
    let entries = wish.entries().ok()?;
    let [(target, _)] = entries.as_slice() else { return deploy(worker, wish) };
    let words = ["sluice".to_owned(), "rollback".to_owned(), name(worker, *target)];
    Some(words.into_iter().chain(options(worker, wish)).collect::<Vec<_>>().join(" "))
}

/// What both commands take.
fn options(worker: &WorkerView, wish: &Wish) -> Vec<String> {
    let mut options = of_worker(worker);
    if !worker.classes.by_name.is_empty() {
        options.push("--durable-objects-code-update-mode".to_owned());
        options.push(match &wish.update {
            Update::Immediate => "immediate".to_owned(),
            Update::Deferred(delay) => quoted(&format!("deferred {delay}s")),
        });
    }
    if wish.force == Force::Yes {
        options.push("--force".to_owned());
    }
    options.extend(message(&wish.message));
    options
}

/// Which worker is meant, whichever folder the command runs in.
#[must_use]
pub fn of_worker(worker: &WorkerView) -> Vec<String> {
    vec!["--name".to_owned(), worker.name.to_string()]
}

/// `--message`, if there is one.
#[must_use]
pub fn message(message: &str) -> Option<String> {
    // With `=`, so that a message that begins with a dash is none of the options.
    (!message.is_empty()).then(|| format!("--message={}", quoted(message)))
}

/// A version by its number, or by its id where another one has that number as its tag, or as the beginning of its id.
#[must_use]
pub fn name(worker: &WorkerView, id: VersionId) -> String {
    let Some(version) = worker.version(id) else { return id.to_string() };
    let number = version.number.to_string();
    let is_taken = worker.newest_first().filter(|other| other.id != id).any(|other| {
        other.tag() == number || (number.len() >= PREFIX_MIN && other.id.to_string().starts_with(&number))
    });
    if is_taken { id.to_string() } else { number }
}

/// A text as one word of a POSIX shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        for (text, word) in [
            ("v1.2", "v1.2"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's $HOME `id` \"x\"", r#"'it'\''s $HOME `id` "x"'"#),
            ("#3", "'#3'"),
            ("ä", "'ä'"),
        ] {
            assert_eq!(quoted(text), word);
            let told = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            assert_eq!(String::from_utf8(told.stdout).unwrap(), text);
        }
        assert_eq!(message("-rf /").as_deref(), Some("--message='-rf /'"));
        assert_eq!(message(""), None);
    }
}
