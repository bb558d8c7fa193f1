//! From the tree of a file to the values of one environment (`CFG-1` to `CFG-3`). Every value keeps its path in the file, so
//! that whoever reads it can say where it stands. Faults and remarks are collected, never returned one by one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::keys::{self, Key, Reach, Treatment};

/// A value and where it stands in the file, such as `env.staging.services`.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub path: String,
    pub value: Value,
}

/// What was found wrong or worth a word. Each is a whole sentence with its path.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    pub faults: Vec<String>,
    pub warnings: Vec<String>,
    /// Paths of keys that are accepted without effect.
    pub without_effect: Vec<String>,
}

/// The values of one environment, by the names of [`keys::KEYS`]; shapes are checked.
pub type Values = BTreeMap<&'static str, Located>;

/// The values for `env`, or for the top of the file.
pub fn resolve(tree: &Map<String, Value>, env: Option<&str>, findings: &mut Findings) -> Values {
    let top = level(tree, "", findings);
    let Some(env) = env else { return report(top, findings) };
    let Some(inner) = environment(tree, env, findings) else {
        return report(top, findings);
    };
    let own = level(inner, &format!("env.{env}."), findings);
    for (name, located) in &own {
        if keys::find(name).is_some_and(|key| key.reach == Reach::TopLevel) {
            findings
                .warnings
                .push(format!("`{}` has no effect: `{name}` belongs at the top of the file", located.path));
        }
    }
    report(inherit(top, own, env, findings), findings)
}

/// The names of the environments that the file has.
pub fn environments(tree: &Map<String, Value>) -> impl Iterator<Item = &str> {
    tree.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// The table `env.<name>`.
fn environment<'a>(tree: &'a Map<String, Value>, env: &str, findings: &mut Findings) -> Option<&'a Map<String, Value>> {
    let all = tree.get("env").and_then(Value::as_object);
    match all.and_then(|all| all.get(env)) {
        Some(Value::Object(inner)) => return Some(inner),
        Some(other) => findings.faults.push(format!("`env.{env}` must be a table, found {}", keys::noun(other))),
        None => {
            let names: Vec<_> = environments(tree).map(|name| format!("`{name}`")).collect();
            let known =
                if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
            findings.faults.push(format!("the file has no environment `{env}`; {known}"));
        }
    }
    None
}

/// The known keys of one level, with faults of shape and warnings of unknown keys.
fn level(tree: &Map<String, Value>, prefix: &str, findings: &mut Findings) -> Values {
    let mut values = Values::new();
    for (name, value) in tree {
        let path = format!("{prefix}{name}");
        match keys::find(name) {
            None => {
                findings.warnings.push(unknown(&path, name, keys::KEYS.iter().map(|key| key.name)));
            }
            Some(key) if !key.shape.fits(value) => {
                let (wanted, found) = (key.shape.noun(), keys::noun(value));
                findings.faults.push(format!("`{path}` must be {wanted}, found {found}"));
            }
            Some(key) => {
                values.insert(key.name, Located { path, value: value.clone() });
            }
        }
    }
    if let (Some(route), Some(routes)) = (values.get("route"), values.get("routes")) {
        findings.faults.push(format!("`{}` and `{}` exclude each other", route.path, routes.path));
    }
    values
}

/// The sentence about a key that is not known.
pub fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match keys::nearest(name, known) {
        Some(near) => format!("`{path}` is not a known key; did you mean `{near}`?"),
        None => format!("`{path}` is not a known key"),
    }
}

fn inherit(mut top: Values, own: Values, env: &str, findings: &mut Findings) -> Values {
    // `route` and `routes` are two spellings of one thing: setting either in an environment replaces both.
    if own.contains_key("route") || own.contains_key("routes") {
        top.remove("route");
        top.remove("routes");
    }
    let mut values = Values::new();
    for Key { name, reach, .. } in keys::KEYS {
        let (above, here) = (top.remove(name), own.get(name).cloned());
        let value = match reach {
            Reach::TopLevel => above,
            Reach::Inherited if *name == "name" => here.or_else(|| above.map(|above| environment_name(above, env))),
            Reach::Inherited => here.or(above),
            Reach::Repeated => {
                if above.is_some() && here.is_none() {
                    findings.warnings.push(format!(
                        "`{name}` is set at the top of the file but not in `env.{env}`, which does not inherit it; \
                         repeat it as `env.{env}.{name}` if it should apply there"
                    ));
                }
                here
            }
        };
        values.extend(value.map(|value| (*name, value)));
    }
    values
}

/// `--env staging` deploys a worker of its own (`CFG-1`).
fn environment_name(name: Located, env: &str) -> Located {
    let Value::String(text) = &name.value else { return name };
    Located { value: Value::String(format!("{text}-{env}")), path: name.path }
}

/// Refuses and notes what the table says, and keeps the rest.
fn report(values: Values, findings: &mut Findings) -> Values {
    let treated = |name: &str| keys::find(name).map(|key| key.treatment);
    for (name, located) in &values {
        match treated(name) {
            Some(Treatment::Refused(why)) if !keys::asks_for_nothing(&located.value) => {
                findings.faults.push(format!("`{}` is not supported: {why}", located.path));
            }
            Some(Treatment::Noted) => findings.without_effect.push(located.path.clone()),
            _ => {}
        }
    }
    values.into_iter().filter(|(name, _)| treated(name) == Some(Treatment::Honoured)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(tree: Value, env: Option<&str>) -> (Value, Findings) {
        let mut findings = Findings::default();
        let values = resolve(tree.as_object().unwrap(), env, &mut findings);
        let plain = values.into_iter().map(|(name, located)| (name.to_owned(), located.value)).collect();
        (Value::Object(plain), findings)
    }

    #[test]
    fn an_environment_inherits_by_key_and_replaces_whole_values() {
        let tree = json!({"name": "w", "main": "a.wasm", "limits": {"cpu_ms": 5, "subrequests": 9}, "keep_vars": true,
            "vars": {"A": 1}, "services": [],
            "env": {"staging": {"limits": {"cpu_ms": 7}, "vars": {"B": 2}}, "live": {"name": "w-prod"}}});
        let (values, findings) = check(tree.clone(), Some("staging"));
        assert_eq!(values["name"], "w-staging");
        assert_eq!(values["limits"], json!({"cpu_ms": 7}));
        assert_eq!(values["vars"], json!({"B": 2}));
        assert_eq!((&values["main"], &values["keep_vars"]), (&json!("a.wasm"), &json!(true)));
        assert!(values.get("services").is_none());
        assert_eq!(findings.warnings.len(), 1, "{findings:?}");
        assert!(findings.warnings[0].contains("`env.staging.services`"));
        assert_eq!(check(tree.clone(), Some("live")).0["name"], "w-prod");
        assert_eq!(check(tree.clone(), None).0["name"], "w");
        let (_, findings) = check(tree, Some("nope"));
        assert_eq!(findings.faults, ["the file has no environment `nope`; it has `staging`, `live`"]);
    }

    #[test]
    fn an_environments_route_replaces_routes_above() {
        let tree = json!({"routes": ["a.test/*"], "env": {"x": {"route": "b.test/*"}}});
        let (values, _) = check(tree, Some("x"));
        assert_eq!(values["route"], "b.test/*");
        assert!(values.get("routes").is_none());
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_paths() {
        let tree = json!({"vars": [], "name": 3, "r2_buckets": [{}], "triggers": {"crons": []}, "minify": true,
            "env": {"x": {"services": {}, "d1_databases": [{}], "keep_vars": true, "vrs": {}}}});
        let (_, findings) = check(tree.clone(), Some("x"));
        insta::assert_debug_snapshot!(findings, @r#"
        Findings {
            faults: [
                "`vars` must be a table, found an array",
                "`name` must be a string, found a number",
                "`env.x.services` must be an array, found a table",
                "`env.x.d1_databases` is not supported: Sluice has no such binding",
            ],
            warnings: [
                "`env.x.vrs` is not a known key; did you mean `vars`?",
                "`env.x.keep_vars` has no effect: `keep_vars` belongs at the top of the file",
                "`r2_buckets` is set at the top of the file but not in `env.x`, which does not inherit it; repeat it as `env.x.r2_buckets` if it should apply there",
            ],
            without_effect: [
                "minify",
            ],
        }
        "#);
        let (_, findings) = check(tree, None);
        assert!(findings.faults[2].starts_with("`r2_buckets` is not supported"), "{findings:?}");
    }
}
