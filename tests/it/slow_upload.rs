//! A module that takes its time to compile holds up nobody; and what becomes of an upload whose client does not wait, or sends it
//! again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::wrangler::Project;
use crate::harness::{Node, Upload, now, test_guest, until};

/// The smallest guest there is, with so much code beside it, which nothing calls, that a test build's compiler is at it for
/// seconds.
fn slow_module() -> Vec<u8> {
    let small = std::fs::read_to_string(test_guest("silent-drop-async")).expect("a guest");
    let (rest, _end) = small.rsplit_once(')').expect("a component");
    let step = "local.get 0 i32.const 7 i32.mul local.get 0 i32.xor i32.const 3 i32.rotl local.set 0 ";
    let function = format!("(func (param i32) (result i32) {} local.get 0)", step.repeat(200));
    format!("{rest}\n(core module $bulk {}))", function.repeat(1800)).into_bytes()
}

fn is_under_way(node: &Node) -> bool {
    let temp = node.dir().join("modules/temp");
    std::fs::read_dir(temp).expect("a folder").flatten().any(|entry| entry.path().is_file())
}

#[test]
fn reads_deploys_other_uploads_and_traffic_go_on_while_a_module_compiles() {
    let node = Node::start();
    let small = test_guest("silent-drop-async");
    let versions = node.hello_versions("here", 2);
    let slow = slow_module();
    thread::scope(|scope| {
        let upload = scope.spawn(|| {
            let began = now();
            let reply = node.upload_bytes("POST", "/scripts/here/versions", "slow.wat", &slow, Upload::default());
            assert_eq!((&reply["success"], reply["result"]["number"].as_u64()), (&true.into(), Some(3)), "{reply:#}");
            began.elapsed()
        });
        until("the upload is under way", || is_under_way(&node).then_some(()));
        let (mut rounds, mut slowest) = (0, Duration::ZERO);
        while !upload.is_finished() {
            let began = now();
            assert_eq!(node.get("here", "/").status, 200);
            assert!(node.versions("here").len() >= 2);
            let share = if rounds % 2 == 0 { 40.0 } else { 60.0 };
            node.split("here", &[(&versions[0], share), (&versions[1], 100.0 - share)]);
            node.deploy_module("there", &small, Upload::default());
            slowest = slowest.max(began.elapsed());
            rounds += 1;
        }
        let took = upload.join().expect("an upload");
        assert!(
            rounds >= 5 && slowest < took / 2,
            "{rounds} rounds, the slowest in {slowest:?}, while it took {took:?}"
        );
    });
}

/// A way to a node on which so many answers to uploads of versions get lost, with their connections.
struct LossyWay {
    address: SocketAddr,
    losses: Arc<AtomicUsize>,
}

impl LossyWay {
    fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, losses) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let left = Arc::clone(&losses);
        // It ends with the test run.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(node).expect("the node accepts");
                carry(client, server, Arc::clone(&left));
            }
        });
        Self { address, losses }
    }

    fn lose(&self, answers: usize) {
        self.losses.store(answers, Ordering::SeqCst);
    }
}

/// Carries bytes both ways until an answer is to be lost.
fn carry(mut client: TcpStream, mut server: TcpStream, losses: Arc<AtomicUsize>) {
    let doomed = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    let dooms = Arc::clone(&doomed);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer) {
            // A client sends the next request when it has its answer, so a request begins where a read does.
            let line = String::from_utf8_lossy(&buffer[..count.min(200)]).into_owned();
            let is_upload = line.starts_with("POST ") && line.contains("/versions?");
            if is_upload && losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
            {
                dooms.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            if doomed.load(Ordering::SeqCst) || client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

#[test]
fn wrangler_uploads_again_when_an_answer_is_lost_and_a_key_makes_it_one_version() {
    let node = Node::start();
    let config = "name = \"teller\"\nmain = \"dist/shim.js\"\nno_bundle = true\ncompatibility_date = \"2026-01-01\"\n";
    let way = LossyWay::to(node.control);
    let Some(project) = Project::new(&node, config).map(|project| project.through(way.address)) else { return };
    project.wrangler(&["deploy"]);
    let upload = |key: &str| {
        let headers = format!("{{\"Idempotency-Key\": \"{key}\"}}");
        let env: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("CLOUDFLARE_API_HEADERS", headers.as_str())] };
        let ran = project.run_with(env, &["versions", "upload"]);
        assert!(ran.ok, "{}", ran.text);
        ran.text
    };
    way.lose(2);
    let told = upload("build-1");
    assert_eq!(way.losses.load(Ordering::SeqCst), 0, "no answer was lost");
    let versions = node.versions("teller");
    assert_eq!(versions.len(), 2);
    assert!(told.contains(versions[0]["id"].as_str().expect("an id")), "{told}");
    // The same upload, meant to be another version.
    upload("build-2");
    assert_eq!(node.versions("teller").len(), 3);
    // Without a key nothing that wrangler sends tells the two apart from two uploads: the README says so.
    way.lose(1);
    upload("");
    assert_eq!(node.versions("teller").len(), 5);
}
