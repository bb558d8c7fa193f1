//! The three languages of a configuration file, all into one plain tree. What its keys mean is not known here; only a syntax error
//! is a fault, and it says the line and the column.

use serde_json::{Map, Value};

/// What a file says, before anyone asks what it means.
pub type Tree = Map<String, Value>;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Toml,
    /// JSON, with comments and commas at the end.
    Jsonc,
}

/// A text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct SyntaxError {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl Language {
    /// The language of a file of this name, by its ending.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "json" | "jsonc" => Some(Self::Jsonc),
            _ => None,
        }
    }
}

/// The tree of a text.
///
/// # Errors
/// The first thing in it that cannot be read.
pub fn parse(text: &str, language: Language) -> Result<Tree, SyntaxError> {
    match language {
        Language::Toml => parse_toml(text),
        Language::Jsonc => parse_jsonc(text),
    }
}

fn parse_jsonc(text: &str) -> Result<Tree, SyntaxError> {
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
    let tree = jsonc_parser::parse_to_serde_value::<Value>(text, &options).map_err(|error| SyntaxError {
        line: error.line_display(),
        column: error.column_display(),
        what: error.kind().to_string(),
    })?;
    match tree {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(SyntaxError { line: 1, column: 1, what: "expected an object".to_owned() }),
    }
}

fn parse_toml(text: &str) -> Result<Tree, SyntaxError> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SyntaxError { line: before.matches('\n').count() + 1, column, what: error.message().to_owned() }
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
        let place_of = |parsed: Result<Tree, SyntaxError>| {
            let SyntaxError { line, column, .. } = parsed.unwrap_err();
            format!("{line}:{column}")
        };
        for (place, text) in [("2:8", "name = \"a\"\nmain = = 3\n"), ("1:6", "name \"a\"")] {
            assert_eq!(place_of(parse_toml(text)), place, "{text}");
        }
        for (place, text) in [("2:3", "{\n  name: 1}"), ("1:11", "{\"name\": 1 2}")] {
            assert_eq!(place_of(parse_jsonc(text)), place, "{text}");
        }
        assert_eq!(parse_jsonc("[]").unwrap_err().what, "expected an object");
        assert!(parse_jsonc("").unwrap().is_empty());
    }

    #[test]
    fn a_file_is_written_in_what_its_name_says() {
        assert_eq!(Language::of_file("wrangler.toml"), Some(Language::Toml));
        assert_eq!(Language::of_file("wrangler.JSONC"), Some(Language::Jsonc));
        assert_eq!(["worker.wasm", "toml", ""].map(Language::of_file), [None; 3]);
    }
}
