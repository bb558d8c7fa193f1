//! Where secret values come from: stdin or a file, never the command line, which other users of the machine can read.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::fault::failed;

/// Values by name; `None` deletes.
pub type Changes = BTreeMap<String, Option<String>>;

/// One value: all of the file or of stdin, without the line end that editors and `echo` add.
pub fn read_value(file: Option<&Path>) -> anyhow::Result<String> {
    let mut text = read(file)?;
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    if text.is_empty() {
        let hint = "give it on stdin (`printf %s \"$VALUE\" | sluice secret put NAME`) or with `--value-file FILE`";
        return Err(failed("the secret's value is empty").hint(hint).into());
    }
    Ok(text)
}

/// Several values: a JSON object (`null` deletes) or the lines of an `.env` file.
pub fn read_changes(file: Option<&Path>) -> anyhow::Result<Changes> {
    let source = file.map_or_else(|| "stdin".to_owned(), |file| format!("`{}`", file.display()));
    let text = read(file)?;
    let changes = if text.trim_start().starts_with('{') { parse_json(&text) } else { parse_env(&text) };
    changes.map_err(|what| failed(format!("{source}: {what}")).into())
}

/// Several values, none of which deletes: for one version.
pub fn read_values(file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut values = Vec::new();
    for (name, value) in read_changes(Some(file))? {
        let Some(value) = value else {
            return Err(failed(format!("`{}`: `{name}` is null, but here nothing can be deleted", file.display()))
                .hint(format!("`sluice secret delete {name}` deletes it"))
                .into());
        };
        values.push((name, value));
    }
    Ok(values)
}

fn read(file: Option<&Path>) -> anyhow::Result<String> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display())),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read stdin as text")?;
            Ok(text)
        }
    }
}

fn parse_json(text: &str) -> Result<Changes, String> {
    let tree: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut changes = Changes::new();
    for (name, value) in tree {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => return Err(format!("the value of `{name}` must be a string, or null to delete it")),
        };
        changes.insert(name, value);
    }
    Ok(changes)
}

/// `NAME=value`, `export NAME=value`, with single quotes (as it stands) or double quotes (`\n`, `\"`, …), which may span
/// lines; `#` begins a comment. Whoever writes more than that writes JSON.
fn parse_env(text: &str) -> Result<Changes, String> {
    let mut changes = Changes::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let entry = rest[..end].trim();
        if entry.is_empty() || entry.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            continue;
        }
        let equals = rest[..end].find('=').ok_or_else(|| format!("line {line}: expected NAME=value"))?;
        let name = rest[..equals].trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if name.is_empty() {
            return Err(format!("line {line}: expected NAME=value"));
        }
        let (value, used) =
            env_value(&rest[equals + 1..]).ok_or_else(|| format!("line {line}: a quote is not closed"))?;
        changes.insert(name.to_owned(), Some(value));
        let consumed = equals + 1 + used;
        line += rest[..consumed].matches('\n').count();
        rest = &rest[consumed..];
    }
    Ok(changes)
}

/// The value at the beginning of `text`, and how much of `text` it took with the rest of its line.
fn env_value(text: &str) -> Option<(String, usize)> {
    let start = text.len() - text.trim_start_matches([' ', '\t']).len();
    let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |end| from + end + 1);
    let quote = text[start..].chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = line_end(start);
        let value = text[start..end].split(" #").next().unwrap_or_default().trim();
        return Some((value.to_owned(), end));
    };
    let mut value = String::new();
    let mut chars = text[start + 1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, line_end(start + 1 + at))),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(text: &str) -> Vec<(String, String)> {
        parse_env(text).unwrap().into_iter().map(|(name, value)| (name, value.unwrap())).collect()
    }

    #[test]
    fn env_files_read_as_shells_would() {
        let text =
            "# top\nA=1\nexport B = two words # said\n\nC='as $is \\n'\nD=\"a\\nb\\\"c\"\nE=\"x\ny\"\nF=\nG=a=b#c";
        let wanted = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "as $is \\n"),
            ("D", "a\nb\"c"),
            ("E", "x\ny"),
            ("F", ""),
            ("G", "a=b#c"),
        ];
        assert_eq!(env(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse_env("A=1\nnonsense").unwrap_err(), "line 2: expected NAME=value");
        assert_eq!(parse_env("A=1\nB=\"x\n").unwrap_err(), "line 2: a quote is not closed");
    }

    #[test]
    fn null_deletes_and_numbers_are_refused() {
        let changes = parse_json(r#"{"A":"1","B":null}"#).unwrap();
        assert_eq!(changes, Changes::from([("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]));
        assert_eq!(parse_json(r#"{"A":1}"#).unwrap_err(), "the value of `A` must be a string, or null to delete it");
    }

    #[test]
    fn a_value_loses_only_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("value");
        std::fs::write(&file, " s3cret \r\n").unwrap();
        assert_eq!(read_value(Some(&file)).unwrap(), " s3cret ");
        std::fs::write(&file, "\n").unwrap();
        assert!(read_value(Some(&file)).is_err());
    }
}
