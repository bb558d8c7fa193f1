//! What an upload says, made valid or refused with all its faults.

use std::collections::BTreeSet;

use super::*;
use crate::domain::limits::VALUE_BYTES_MAX;

fn draft(bindings: Vec<(&str, DraftValue)>) -> ConfigDraft {
    let bindings = bindings.into_iter().map(|(name, value)| BindingDraft { name: name.into(), value }).collect();
    ConfigDraft { bindings, ..ConfigDraft::default() }
}

fn secret(value: &str) -> DraftValue {
    DraftValue::Secret(SecretText::new(value.into()))
}

fn resolved(draft: &ConfigDraft, previous: Option<&Config>) -> Config {
    Config::resolve(draft, previous, Inheritance::Strict).unwrap()
}

#[test]
fn all_faults_are_reported_at_once_with_their_places() {
    let mut bad = draft(vec![
        ("1x", DraftValue::Text("v".into())),
        ("BIG", DraftValue::Text("v".repeat(VALUE_BYTES_MAX + 1))),
        ("S", DraftValue::Service { service: "Not A Name".into(), entrypoint: Some("Admin".into()) }),
        ("R", DraftValue::Unsupported { kind: "r2_bucket".into(), hint: "there is no R2 here" }),
        ("GONE", DraftValue::Inherit { old_name: None }),
    ]);
    bad.cpu_ms = Some(0);
    bad.subrequests = Some(-1);
    let faults = Config::resolve(&bad, None, Inheritance::Strict).unwrap_err();
    let places: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        places,
        [
            "bindings[0].name",
            "bindings[1]",
            "bindings[2].entrypoint",
            "bindings[2].service",
            "bindings[3].type",
            "bindings[4]",
            "limits.cpu_ms",
            "limits.subrequests"
        ]
    );
    assert!(faults[5].message.starts_with("inherit binding 'GONE' is invalid"));
    assert_eq!(faults[5].kind, FaultKind::Inherit);
}

#[test]
fn kept_and_inherited_bindings_come_from_the_version_before() {
    let first =
        resolved(&draft(vec![("A", DraftValue::Text("1".into())), ("S", secret("s")), ("T", secret("t"))]), None);
    let mut next = draft(vec![("T", secret("new")), ("B", DraftValue::Inherit { old_name: Some("A".into()) })]);
    next.keep.secrets = true;
    let second = resolved(&next, Some(&first));
    let names: Vec<&str> = second.bindings.iter().map(|binding| binding.name.as_str()).collect();
    assert_eq!(names, ["T", "B", "S"]);
    assert_eq!(second.bindings[1].value, BindingValue::Text("1".into()));
    assert_eq!(second.secrets().values().map(|value| value.reveal()).collect::<Vec<_>>(), ["s", "new"]);
    next.keep = Keep { variables: true, secrets: false };
    assert!(resolved(&next, Some(&first)).bindings.iter().any(|binding| binding.name.as_str() == "A"));
}

#[test]
fn a_binding_of_objects_names_a_class_and_perhaps_another_worker() {
    let object = |class: &str, script: Option<&str>| DraftValue::DurableObject {
        class_name: class.into(),
        script_name: script.map(Into::into),
    };
    let first = resolved(&draft(vec![("A", object("Counter", None)), ("B", object("Room", Some("chat")))]), None);
    let found: Vec<_> = first.objects().map(|(name, class, worker)| (name.as_str(), class.as_str(), worker)).collect();
    let chat: WorkerName = "chat".parse().unwrap();
    assert_eq!(found, [("A", "Counter", None), ("B", "Room", Some(&chat))]);

    let next = draft(vec![
        ("C", DraftValue::Inherit { old_name: Some("B".into()) }),
        ("c", DraftValue::Service { service: "other".into(), entrypoint: None }),
    ]);
    let faults = Config::resolve(&next, Some(&first), Inheritance::Strict).unwrap_err();
    assert!(faults[0].message.contains("http://c.internal"), "{faults:?}");
    assert_eq!(resolved(&draft(vec![("B", DraftValue::Inherit { old_name: None })]), Some(&first)).bindings.len(), 1);

    let faults = Config::resolve(&draft(vec![("A", object("a-b", Some("No Name")))]), None, Inheritance::Strict);
    let places: Vec<_> = faults.unwrap_err().into_iter().map(|fault| fault.path).collect();
    assert_eq!(places, ["bindings[0].class_name", "bindings[0].script_name"]);
}

#[test]
fn an_unresolved_inherit_is_dropped_unless_strict() {
    let wish = draft(vec![("GONE", DraftValue::Inherit { old_name: None })]);
    assert!(Config::resolve(&wish, None, Inheritance::Lenient).unwrap().bindings.is_empty());
}

#[test]
fn addresses_that_differ_only_in_case_collide() {
    let service = || DraftValue::Service { service: "other".into(), entrypoint: None };
    let faults =
        Config::resolve(&draft(vec![("Api", service()), ("API", service())]), None, Inheritance::Strict).unwrap_err();
    assert!(faults[0].message.contains("http://api.internal"), "{faults:?}");
    let namespace = DraftValue::KvNamespace { namespace_id: "0".repeat(32) };
    let mixed = draft(vec![("NOTES", namespace), ("notes", service())]);
    let faults = Config::resolve(&mixed, None, Inheritance::Strict).unwrap_err();
    assert!(faults[0].message.contains("http://notes.internal"), "{faults:?}");
    // Variables have no address.
    let vars = draft(vec![("Api", DraftValue::Text(String::new())), ("API", service())]);
    assert!(Config::resolve(&vars, None, Inheritance::Strict).is_ok());
}

#[test]
fn a_secret_edit_copies_everything_else() {
    let mut base =
        draft(vec![("A", DraftValue::Text("1".into())), ("S", secret("s")), ("M", DraftValue::VersionMetadata)]);
    base.cpu_ms = Some(50);
    base.instance_reuse = Some(true);
    base.compatibility_flags = vec!["f".into()];
    let base = resolved(&base, None);
    let set = BTreeMap::from([("N".to_owned(), SecretText::new("n".into()))]);
    let copy = base.with_secrets(&set, &BTreeSet::from(["S".to_owned()])).unwrap();
    assert_eq!(copy.secrets().keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["N"]);
    let without = |config: &Config| Config { bindings: Vec::new(), ..config.clone() };
    assert_eq!(without(&copy), without(&base));
    let set = BTreeMap::from([("A".to_owned(), SecretText::new("n".into()))]);
    assert!(base.with_secrets(&set, &BTreeSet::new()).is_err());
}

#[test]
fn a_secret_never_shows_in_debug_output() {
    let config = resolved(&draft(vec![("S", secret("hunter2"))]), None);
    assert!(!format!("{config:?}").contains("hunter2"));
}
