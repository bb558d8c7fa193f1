//! Durability (`S1`, `S2`): a node is killed at random instants while it is being changed. After each restart everything that
//! was acknowledged is there, and of the one change that was under way either all or nothing.
//!
//! Runs for a while by default; `SLUICE_CRASH_ROUNDS=1000` runs that many rounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Node, Upload, example, http, now};

/// How long it runs unless told otherwise.
const TIME: Duration = Duration::from_secs(20);
/// Rounds on one worker: what is known of it is compared in full after each.
const ROUNDS_PER_WORKER: usize = 25;

/// A client that keeps nothing of the node but its address, so that the node may die under it.
struct Client {
    control: SocketAddr,
    token: String,
}

/// What is known of a worker.
#[derive(Default, Clone)]
struct Known {
    /// Ids and what each version says, in the order of their numbers.
    versions: Vec<(String, String)>,
    /// The active deployment: ids and shares.
    active: Vec<(String, f64)>,
    /// Secrets of the latest version.
    secrets: BTreeMap<String, String>,
}

/// One change, as it is asked for.
#[derive(Debug)]
enum Change {
    /// A version, with all traffic or without any.
    Upload {
        greeting: String,
        module: Vec<u8>,
        deploy: bool,
    },
    Split(Vec<(String, f64)>),
    Secret {
        name: String,
        value: String,
    },
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_instant() {
    let rounds: Option<usize> = std::env::var("SLUICE_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("SLUICE_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(fastrand::u64(..));
    println!("SLUICE_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let module = std::fs::read(example("version-teller")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    // Compiled once, so that an upload is a matter of milliseconds.
    node.deploy_module("warm", &example("version-teller"), Upload::default());
    let mut workers: Vec<(String, Known)> = Vec::new();
    let (mut round, mut changes, began) = (0, 0, now());
    while rounds.map_or(began.elapsed() < TIME, |rounds| round < rounds) {
        if round % ROUNDS_PER_WORKER == 0 {
            workers.push((format!("w{}", workers.len()), Known::default()));
        }
        let (worker, known) = workers.last_mut().unwrap();
        let client = Client { control: node.control, token: node.token.clone() };
        let killer = kill_after(node.pid(), Duration::from_millis(random.u64(0..250)));
        let cut_off = loop {
            let change = Change::random(&mut random, known, &module);
            match client.make(worker, &change) {
                Some(answer) => changes += known.note(&change, &answer),
                None => break change,
            }
        };
        killer.join().unwrap();
        node = node.kill_and_restart();
        check(&node, worker, known, &cut_off);
        round += 1;
    }
    println!("{round} kills, {changes} acknowledged changes");
    assert!(changes > 0);
    // Those before the last were not touched by what came after.
    for (worker, known) in &workers {
        let versions = versions_of(&node, worker);
        assert!(versions.iter().map(|(id, _)| id).eq(known.versions.iter().map(|(id, _)| id)), "{worker}");
        assert_eq!(active_of(&node, worker), known.active);
    }
}

fn kill_after(pid: u32, delay: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    })
}

impl Change {
    fn random(random: &mut fastrand::Rng, known: &Known, module: &[u8]) -> Self {
        let greeting = format!("g{:016x}", random.u64(..));
        match random.u8(0..10) {
            _ if known.versions.is_empty() => Self::Upload { greeting, module: module.to_vec(), deploy: true },
            0..3 => Self::Upload { greeting, module: module.to_vec(), deploy: true },
            3..5 => Self::Upload { greeting, module: module.to_vec(), deploy: false },
            5 => Self::Upload { module: unlike(module, &greeting), greeting, deploy: false },
            6..8 => {
                let named = known.versions.iter().rev().filter(|(id, _)| !id.starts_with('#'));
                let newest: Vec<_> = named.take(20).collect();
                let (a, b) = (&newest[random.usize(..newest.len())].0, &newest[random.usize(..newest.len())].0);
                if a == b {
                    return Self::Split(vec![(a.clone(), 100.0)]);
                }
                let tenths = random.u32(1..1000);
                let share = |tenths: u32| f64::from(tenths) / 10.0;
                Self::Split(vec![(a.clone(), share(tenths)), (b.clone(), share(1000 - tenths))])
            }
            _ => Self::Secret { name: format!("S{}", random.u8(0..5)), value: greeting },
        }
    }
}

/// The same component with bytes of its own: a custom section that no one reads.
fn unlike(module: &[u8], text: &str) -> Vec<u8> {
    let content = [&[1, b'x'], text.as_bytes()].concat();
    [module, &[0, u8::try_from(content.len()).unwrap()], &content].concat()
}

impl Client {
    /// The envelope of the answer; none if the node died before it was whole.
    fn make(&self, worker: &str, change: &Change) -> Option<Value> {
        match change {
            Change::Upload { greeting, module, deploy } => {
                let bindings = json!([{ "type": "plain_text", "name": "GREETING", "text": greeting }]);
                let keep = json!(["secret_text"]);
                let metadata = json!({ "main_module": "m.wasm", "bindings": bindings, "keep_bindings": keep });
                let (content_type, body) = http::multipart(&metadata.to_string(), "m.wasm", module);
                let (method, below) = if *deploy { ("PUT", "") } else { ("POST", "/versions") };
                self.call(method, &format!("/scripts/{worker}{below}"), &content_type, &body)
            }
            Change::Split(shares) => {
                let shares = shares.iter().map(|(id, share)| json!({ "version_id": id, "percentage": share }));
                let body = json!({ "strategy": "percentage", "versions": shares.collect::<Vec<Value>>() });
                let path = format!("/scripts/{worker}/deployments?force=true");
                self.call("POST", &path, "application/json", body.to_string().as_bytes())
            }
            Change::Secret { name, value } => {
                let body = json!({ "name": name, "text": value, "type": "secret_text" }).to_string();
                self.call("PUT", &format!("/scripts/{worker}/secrets"), "application/json", body.as_bytes())
            }
        }
    }

    fn call(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Option<Value> {
        let (host, token) = (self.control.to_string(), format!("Bearer {}", self.token));
        let headers = [("host", host.as_str()), ("authorization", &token), ("content-type", content_type)];
        let path = format!("/client/v4/accounts/local/workers{path}");
        let reply = http::try_request(self.control, method, &path, &headers, body)?;
        serde_json::from_slice(&reply.body).ok()
    }
}

impl Known {
    /// Notes what was acknowledged. A refusal changes nothing; any other than by the rules of secrets is a bug.
    fn note(&mut self, change: &Change, answer: &Value) -> usize {
        if answer["success"] == false {
            let by_rule = matches!(change, Change::Secret { .. }) && answer["errors"][0]["code"] == 10215;
            assert!(by_rule, "{change:?}: {answer:#}");
            return 0;
        }
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned();
        match change {
            Change::Upload { greeting, deploy: true, .. } => {
                self.add(text(&answer["result"]["deployment_id"]), greeting.clone());
                self.deploy_latest();
            }
            Change::Upload { greeting, .. } => self.add(text(&answer["result"]["id"]), greeting.clone()),
            Change::Split(shares) => self.active.clone_from(shares),
            Change::Secret { name, value } => {
                // The answer does not name the version that was made: its place stands for it until the next look.
                self.secrets.insert(name.clone(), value.clone());
                let (place, greeting) = (self.versions.len(), self.versions.last().unwrap().1.clone());
                self.add(format!("#{place}"), greeting);
                self.deploy_latest();
            }
        }
        1
    }

    fn add(&mut self, id: String, greeting: String) {
        self.versions.push((id, greeting));
    }

    fn deploy_latest(&mut self) {
        self.active = vec![(self.versions.last().unwrap().0.clone(), 100.0)];
    }
}

/// Ids and greetings of all versions, oldest first.
fn versions_of(node: &Node, worker: &str) -> Vec<(String, String)> {
    let list = node.api("GET", &format!("/scripts/{worker}/versions?per_page=1000"), &Value::Null);
    let items = list["items"].as_array().unwrap();
    for (place, item) in items.iter().rev().enumerate() {
        assert_eq!(item["number"], place + 1, "a gap in the numbers of {worker}");
    }
    let greeting = |item: &Value| {
        let bindings = item["resources"]["bindings"].as_array().unwrap();
        let greeting = bindings.iter().find(|binding| binding["name"] == "GREETING").expect("a torn version");
        greeting["text"].as_str().unwrap().to_owned()
    };
    items.iter().rev().map(|item| (item["id"].as_str().unwrap().to_owned(), greeting(item))).collect()
}

fn active_of(node: &Node, worker: &str) -> Vec<(String, f64)> {
    let deployments = node.api("GET", &format!("/scripts/{worker}/deployments"), &Value::Null);
    let Some(shares) = deployments["deployments"][0]["versions"].as_array() else { return Vec::new() };
    let share =
        |share: &Value| (share["version_id"].as_str().unwrap().to_owned(), share["percentage"].as_f64().unwrap());
    shares.iter().map(share).collect()
}

/// Compares what is there with what is known, and takes over what became of the change that was cut off.
fn check(node: &Node, worker: &str, known: &mut Known, cut_off: &Change) {
    let exists = node.api("GET", "/scripts", &Value::Null).as_array().unwrap().iter().any(|item| item["id"] == worker);
    if !exists {
        assert!(known.versions.is_empty(), "{worker} is gone");
        return;
    }
    let versions = versions_of(node, worker);
    let named = |id: &str| id.strip_prefix('#').map(|place| versions[place.parse::<usize>().unwrap()].0.clone());
    let ids = known.versions.iter_mut().map(|(id, _)| id).chain(known.active.iter_mut().map(|(id, _)| id));
    ids.for_each(|id| named(id).into_iter().for_each(|name| *id = name));
    for ((id, greeting), (known_id, known_greeting)) in versions.iter().zip(&known.versions) {
        assert!(id == known_id && greeting == known_greeting, "{worker}: {id} is not {known_id}");
    }
    let more = versions.len().checked_sub(known.versions.len());
    let more = more.unwrap_or_else(|| panic!("{} of {} versions are left", versions.len(), known.versions.len()));
    let active = active_of(node, worker);
    match (cut_off, more) {
        (_, 0) => {
            let split = if let Change::Split(shares) = cut_off { Some(shares) } else { None };
            assert!(active == known.active || Some(&active) == split, "{worker}: {active:?} is not {:?}", known.active);
        }
        (Change::Upload { greeting, deploy, .. }, 1) => {
            let (id, found) = versions.last().unwrap();
            assert_eq!(found, greeting);
            // The version and its deployment are one commit.
            let all = vec![(id.clone(), 100.0)];
            assert_eq!(active, if *deploy { all } else { known.active.clone() });
        }
        (Change::Secret { name, value }, 1) => {
            assert_eq!(active, [(versions.last().unwrap().0.clone(), 100.0)]);
            known.secrets.insert(name.clone(), value.clone());
        }
        _ => panic!("{worker}: {more} versions too many after {cut_off:?}"),
    }
    known.versions = versions;
    known.active = active;
    // What is visible runs (V2), with the secrets of its time. The worker's answer is that of a live version.
    let (latest, greeting) = known.versions.last().unwrap();
    let host = format!("{}-{worker}.localhost", &latest[..8]);
    let environment = node.get(&host, "/env");
    assert_eq!(environment.status, 200, "{}", environment.text());
    let environment: Value = serde_json::from_str(&environment.text()).unwrap();
    assert_eq!(environment["GREETING"], greeting.as_str());
    for (name, value) in &known.secrets {
        assert_eq!(environment[name], value.as_str(), "the secret {name}");
    }
    let said = node.get(worker, "/").text();
    let live = |(id, _): &&(String, String)| known.active.iter().any(|(active, _)| active == id);
    assert!(known.versions.iter().filter(live).any(|(_, greeting)| said.starts_with(greeting)), "{said}");
    assert_tidy(node.dir());
}

/// Nothing of an upload that was cut off is left.
fn assert_tidy(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder.join("modules/temp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
