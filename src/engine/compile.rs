//! From uploaded bytes to a component: what we accept, and the one clear message for everything else.
//!
//! Accepted are components; core modules with component-type information, also such as use WASI preview 1; and the text
//! format of either. The result must export a handler of `wasi:http` and import only what [`host`](crate::host) offers.

use std::borrow::Cow;

use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::domain::limits::MODULE_BYTES_MAX;
use crate::domain::module::GuestKind;
use crate::host::{OFFERED_02, OFFERED_03};

/// Why a module was refused: what was found and what is expected, complete, for the uploader.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

/// Refusals that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The module cannot run here.
    Invalid,
    /// It is larger than the limit.
    TooLarge,
    /// We failed, not the module.
    Host,
}

/// A component and what its outside says.
pub struct Inspected<'a> {
    pub component: Cow<'a, [u8]>,
    pub kind: GuestKind,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

impl Refusal {
    /// The module cannot run here, because of `message`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Invalid, message: message.into() }
    }

    /// We failed at `message`.
    pub fn host(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Host, message: message.into() }
    }
}

const EXPECTED: &str = "expected a component that exports `wasi:http/handler@0.3` or `wasi:http/incoming-handler@0.2`, or a core module with component-type information";

/// Reads what was uploaded, and makes a component of it if it is none yet.
///
/// # Errors
/// What was found, and what is expected.
pub fn inspect(bytes: &[u8]) -> Result<Inspected<'_>, Refusal> {
    if bytes.len() as u64 > MODULE_BYTES_MAX {
        let message = format!("the module has {} bytes, the limit is {MODULE_BYTES_MAX}", bytes.len());
        return Err(Refusal { kind: RefusalKind::TooLarge, message });
    }
    let binary = to_binary(bytes)?;
    validate(&binary)?;
    let component = if Parser::is_core_wasm(&binary) { Cow::Owned(componentize(&binary)?) } else { binary };
    let (imports, exports) = outside(&component)?;
    let kind = kind_of(&imports, &exports)?;
    check_imports(&imports, kind)?;
    Ok(Inspected { component, kind, imports, exports })
}

fn to_binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| looks_like_wat(text));
    let Some(text) = text else {
        let found = if bytes.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", bytes[..bytes.len().min(8)].escape_ascii())
        };
        return Err(Refusal::invalid(format!(
            "this is not WebAssembly: it begins with {found} instead of `\\0asm`; {EXPECTED}"
        )));
    };
    match wat::parse_str(text) {
        Ok(binary) => Ok(Cow::Owned(binary)),
        Err(error) => Err(Refusal::invalid(format!("the WebAssembly text does not parse: {}", wat_fault(&error)))),
    }
}

/// What is wrong with a text, and where, on one line: the parser draws the place on lines of its own.
fn wat_fault(error: &wat::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    let place = lines.next().and_then(|line| line.rsplit_once("<anon>:")?.1.split_once(':'));
    match place {
        Some((line, column)) => format!("{what} (at line {line}, column {column})"),
        None => what.to_owned(),
    }
}

fn looks_like_wat(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("(module") || text.starts_with("(component") || text.starts_with(";;") || text.starts_with("(;")
}

fn validate(binary: &[u8]) -> Result<(), Refusal> {
    let mut validator = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all());
    validator.validate_all(binary).map(drop).map_err(|error| {
        let cut = error.offset() >= binary.len() || error.message().contains("unexpected end");
        let what = if cut { "the module is cut off" } else { "the module is not valid WebAssembly" };
        Refusal::invalid(format!("{what}: {} (at byte {} of {})", error.message(), error.offset(), binary.len()))
    })
}

/// Makes a component of a core module, with the published adapter for WASI preview 1.
fn componentize(module: &[u8]) -> Result<Vec<u8>, Refusal> {
    if !has_component_type(module) {
        return Err(Refusal::invalid(format!(
            "this is a core module without component-type information, so its imports and exports have no meaning here; {EXPECTED} (what wit-bindgen leaves in a module; or build for `wasm32-wasip2`)"
        )));
    }
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.adapter("wasi_snapshot_preview1", adapter))
        .and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        // The outermost layers only say that encoding failed.
        let cause = error.chain().last().map(ToString::to_string).unwrap_or_default();
        Refusal::invalid(format!("the core module could not be made a component: {cause}"))
    })
}

fn has_component_type(module: &[u8]) -> bool {
    Parser::new(0).parse_all(module).any(|payload| {
        matches!(payload, Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type"))
    })
}

/// The names that a component imports and exports.
fn outside(component: &[u8]) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let broken =
        |error: wasmparser::BinaryReaderError| Refusal::invalid(format!("the component does not parse: {error}"));
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(broken)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// An interface's name and its version: `wasi:http/types` and `0.2.3`.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn is_02(version: &str) -> bool {
    version == "0.2" || version.starts_with("0.2.")
}

fn is_03(version: &str) -> bool {
    version == "0.3" || version.starts_with("0.3.")
}

/// Before 0.3.0 there were release candidates, each its own world.
fn is_candidate(version: &str) -> bool {
    version.contains('-')
}

fn kind_of(imports: &[String], exports: &[String]) -> Result<GuestKind, Refusal> {
    let exports_it = |interface: &str, fits: fn(&str) -> bool| {
        exports
            .iter()
            .map(|name| parts(name))
            .any(|(name, version)| name == interface && fits(version) && !is_candidate(version))
    };
    if exports_it("wasi:http/handler", is_03) {
        return Ok(GuestKind::Wasi03);
    }
    if !exports_it("wasi:http/incoming-handler", is_02) {
        let found =
            if exports.is_empty() { "exports nothing".to_owned() } else { format!("exports {}", listed(exports)) };
        let candidate = exports.iter().find(|name| name.starts_with("wasi:http/") && is_candidate(parts(name).1));
        let hint = match candidate {
            Some(name) => format!("; `{name}` is a release candidate, build against 0.3.0 or newer"),
            None => String::new(),
        };
        return Err(Refusal::invalid(format!("the component {found}, no HTTP handler; {EXPECTED}{hint}")));
    }
    if let Some(name) = imports.iter().find(|name| is_03(parts(name).1) || name.starts_with("sluice:worker/")) {
        return Err(Refusal::invalid(format!(
            "the component exports the 0.2 handler but imports `{name}` of WASI 0.3; export `wasi:http/handler@0.3` as well"
        )));
    }
    Ok(GuestKind::Wasi02)
}

fn check_imports(imports: &[String], kind: GuestKind) -> Result<(), Refusal> {
    let missing: Vec<&String> = imports.iter().filter(|name| !is_offered(name, kind)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(|name| format!("`{name}` ({})", nearest(name))).collect();
    let plural = if missing.len() == 1 { "an interface that is" } else { "interfaces that are" };
    Err(Refusal::invalid(format!("the component imports {plural} not offered here: {}", lines.join(", "))))
}

fn is_offered(import: &str, kind: GuestKind) -> bool {
    let (name, version) = parts(import);
    match name {
        "wasi:config/store" => version == "0.2.0-rc.1",
        _ if name.starts_with("wasi:keyvalue/") => version == "0.2.0-draft" && OFFERED_02.contains(&name),
        _ if name.starts_with("sluice:") => {
            version == "0.1.0"
                && (OFFERED_02.contains(&name) || kind == GuestKind::Wasi03 && OFFERED_03.contains(&name))
        }
        _ if is_candidate(version) => false,
        _ if is_02(version) => OFFERED_02.contains(&name),
        _ if is_03(version) => kind == GuestKind::Wasi03 && OFFERED_03.contains(&name),
        _ => false,
    }
}

/// What to say of a missing import: the reason if we know one, else the nearest that is offered.
fn nearest(import: &str) -> String {
    let (name, version) = parts(import);
    let offered = || OFFERED_02.iter().map(|name| (*name, "0.2")).chain(OFFERED_03.iter().map(|name| (*name, "0.3")));
    if let Some((_, other)) = offered().find(|(offered, _)| *offered == name) {
        let other = match name {
            "wasi:config/store" => "0.2.0-rc.1",
            _ if name.starts_with("wasi:keyvalue/") => "0.2.0-draft",
            _ if name.starts_with("sluice:") => "0.1.0",
            _ => other,
        };
        return format!("version `{version}` is not offered, `{name}@{other}` is");
    }
    let near = offered()
        .map(|(offered, other)| (strsim::jaro_winkler(offered, name), version.starts_with(other), offered, other))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .filter(|(likeness, ..)| *likeness > 0.8);
    match near {
        Some((_, _, offered, other)) => format!("the nearest offered is `{offered}@{other}`"),
        None => "nothing like it is offered".into(),
    }
}

fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let mut text = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", names.len() - SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        match inspect(bytes) {
            Ok(_) => panic!("accepted"),
            Err(refusal) => refusal.message,
        }
    }

    #[test]
    fn what_is_no_wasm_is_said_to_be_none() {
        assert!(refused(b"").contains("begins with nothing"));
        assert!(refused(b"export default {}").contains("not WebAssembly: it begins with `export d`"));
        assert!(refused(&[0xff; 100]).contains("not WebAssembly"));
        assert!(refused(b"(module\n  (fun))").ends_with("valid module field (at line 2, column 4)"));
        assert!(refused(b"\0asm\x01\0\0\0\x01\xff").contains("cut off"));
        assert!(refused(b"\0asm\x0d\0\x01\0").contains("exports nothing"));
        assert!(refused(b"(module)").contains("core module without component-type information"));
    }

    #[test]
    fn all_missing_imports_are_listed_with_the_nearest_offered() {
        let wat = r#"(component
            (import "wasi:htp/types@0.2.0" (instance))
            (import "wasi:keyvalue/store@0.2.0-draft2" (instance))
            (import "wasi:keyvalue/batch@0.2.0-draft" (instance))
            (import "wasi:config/store@0.2.0-draft" (instance))
            (import "acme:db/queries@1.0.0" (instance))
            (import "wasi:io/poll@0.2.3" (instance $ok))
            (export "wasi:http/incoming-handler@0.2.3" (instance $ok)))"#;
        let message = refused(wat.as_bytes());
        for part in [
            "wasi:htp/types@0.2.0` (the nearest offered is `wasi:http/types@0.2`",
            "`wasi:keyvalue/store@0.2.0-draft` is",
            "`wasi:config/store@0.2.0-rc.1` is",
            "acme:db/queries@1.0.0` (nothing like it",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("wasi:io/poll") && !message.contains("wasi:keyvalue/batch"));
    }

    #[test]
    fn a_release_candidate_is_named_as_such() {
        let wat = r#"(component (import "wasi:io/poll@0.2.3" (instance $i)) (export "wasi:http/handler@0.3.0-rc-2026-01-06" (instance $i)))"#;
        assert!(refused(wat.as_bytes()).contains("release candidate"));
    }
}
