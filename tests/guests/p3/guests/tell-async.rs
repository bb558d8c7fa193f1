//! Tells all that its configuration gives it, one line for each: `env NAME=value`, `config NAME=value`, and
//! `metadata id|tag|timestamp`, or `metadata none`.

use sluice::worker::version_metadata;
use test_guests_p3::{ErrorCode, Request, Response, answer, wasip3, worker};
use wasi::config::store;

wit_bindgen::generate!({
    path: "../../../wit/sluice-worker",
    inline: "
        package test:tell-async;
        world worker {
            import wasi:config/store@0.2.0-rc.1;
            import sluice:worker/version-metadata@0.1.0;
        }
    ",
    generate_all,
});

worker!(handle);

async fn handle(_request: Request) -> Result<Response, ErrorCode> {
    let mut text = String::new();
    for (name, value) in wasip3::cli::environment::get_environment() {
        text += &format!("env {name}={value}\n");
    }
    for (name, value) in store::get_all().expect("the configuration can be read") {
        text += &format!("config {name}={value}\n");
    }
    text += &match version_metadata::get() {
        Some(version) => format!("metadata {}|{}|{}\n", version.id, version.tag, version.timestamp),
        None => "metadata none\n".to_owned(),
    };
    Ok(answer(200, &[("content-type", "text/plain")], text))
}
