//! Counts in the KV namespace bound as `NOTES`, from WASI 0.3: each request adds one to the key `n` and answers with the sum.
//! `?open=NAME` only opens a store of that name, and answers with what came of it.

use test_guests_p3::{ErrorCode, Request, Response, answer, query, worker};
use wasi::keyvalue::{atomics, store};

wit_bindgen::generate!({
    path: "../../../wit/sluice-worker",
    inline: "
        package test:kv-async;
        world guest {
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
        }
    ",
    world: "test:kv-async/guest",
    generate_all,
});

worker!(handle);

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let kind = [("content-type", "text/plain")];
    if let Some(name) = query::<String>(&request, "open") {
        let opened = store::open(&name).map(drop);
        return Ok(answer(200, &kind, format!("{opened:?}\n")));
    }
    let sum = store::open("NOTES").and_then(|notes| atomics::increment(&notes, "n", 1));
    Ok(match sum {
        Ok(sum) => answer(200, &kind, format!("{sum}\n")),
        Err(error) => answer(500, &kind, format!("{error:?}\n")),
    })
}
