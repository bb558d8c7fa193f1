//! Finds and reads the configuration file: `wrangler.json`, `wrangler.jsonc` or `wrangler.toml`, all into one plain tree.
//! What the keys mean is not known here; only a syntax error is a fault, and it says the line and the column.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::cli::fault::{Fault, failed};

/// In the order in which wrangler looks for them.
const NAMES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

/// The file that `--config` names, or the nearest one in `folder` or above it.
pub fn locate(explicit: Option<&Path>, folder: &Path) -> Result<Option<PathBuf>, Fault> {
    match explicit {
        Some(path) if path.is_file() => Ok(Some(path.to_owned())),
        Some(path) if path.is_dir() => {
            NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file()).map_or_else(
                || Err(failed(format!("`{}` holds no {}", path.display(), NAMES.join(", ")))),
                |file| Ok(Some(file)),
            )
        }
        Some(path) => Err(failed(format!("there is no configuration file `{}`", path.display()))),
        None => Ok(folder.ancestors().flat_map(|up| NAMES.map(|name| up.join(name))).find(|file| file.is_file())),
    }
}

/// The tree of the file at `path`.
pub fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let json = path.extension().is_some_and(|extension| extension != "toml");
    let tree = if json { parse_jsonc(&text) } else { parse_toml(&text) };
    Ok(tree.map_err(|(place, what)| failed(format!("{}:{place}: {what}", path.display())))?)
}

/// Where, as `line:column`, and what.
type SyntaxError = (String, String);

fn parse_jsonc(text: &str) -> Result<Map<String, Value>, SyntaxError> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        ..Default::default()
    };
    let tree = jsonc_parser::parse_to_serde_value::<Value>(text, &options)
        .map_err(|error| (format!("{}:{}", error.line_display(), error.column_display()), error.kind().to_string()))?;
    match tree {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(("1:1".to_owned(), "expected an object".to_owned())),
    }
}

fn parse_toml(text: &str) -> Result<Map<String, Value>, SyntaxError> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (format!("{}:{column}", before.matches('\n').count() + 1), error.message().to_owned())
    })?;
    Ok(table.into_iter().map(|(key, value)| (key, json(value))).collect())
}

/// Dates become their text (`compatibility_date = 2026-01-01`); what JSON has no number for becomes text as well, and is
/// then refused where a number is expected.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_languages_read_as_one_tree() {
        let toml =
            "name = \"a\"\ncompatibility_date = 2026-01-01\n[vars]\nN = 3\nF = 1.5\n[[services]]\nbinding = \"B\"\n";
        let jsonc = r#"{ // a comment
            "name": "a", "compatibility_date": "2026-01-01", "vars": {"N": 3, "F": 1.5}, "services": [{"binding": "B"},], }"#;
        let (toml, jsonc) = (parse_toml(toml).unwrap(), parse_jsonc(jsonc).unwrap());
        assert_eq!(Value::Object(toml), Value::Object(jsonc));
    }

    #[test]
    fn a_syntax_error_says_where() {
        for (place, text) in [("2:8", "name = \"a\"\nmain = = 3\n"), ("1:6", "name \"a\"")] {
            assert_eq!(parse_toml(text).unwrap_err().0, place, "{text}");
        }
        for (place, text) in [("2:3", "{\n  name: 1}"), ("1:11", "{\"name\": 1 2}")] {
            assert_eq!(parse_jsonc(text).unwrap_err().0, place, "{text}");
        }
        assert_eq!(parse_jsonc("[]").unwrap_err().1, "expected an object");
        assert!(parse_jsonc("").unwrap().is_empty());
    }

    #[test]
    fn the_nearest_file_above_is_taken_and_json_before_toml() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(folder.path().join("wrangler.toml"), "").unwrap();
        assert_eq!(locate(None, &inner).unwrap().unwrap(), folder.path().join("wrangler.toml"));
        std::fs::write(folder.path().join("wrangler.jsonc"), "").unwrap();
        assert_eq!(locate(None, &inner).unwrap().unwrap(), folder.path().join("wrangler.jsonc"));
        assert!(locate(Some(&inner.join("no.toml")), &inner).is_err());
    }
}
