//! Calls other workers: all of them at once, through its service bindings.
//!
//! | Path                  | Answer                                                               |
//! |-----------------------|----------------------------------------------------------------------|
//! | `/via-http/<binding>` | calls one worker by the address of its binding, with plain WASI HTTP |
//! | any other             | calls every binding that the variable `TARGETS` names (`A,B`)        |
//!
//! Each call is one line: `<binding>: <status> <body>`. The request's headers go along, so a caller
//! who asks for a version of one of the workers gets it there.

use futures::future::join_all;
use sluice::worker::services;
use wasip3::cli::environment::get_environment;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker",
    inline: "
        package example:fan-out;
        world worker {
            import sluice:worker/services@0.1.0;
        }
    ",
    with: {
        "wasi:clocks/types@0.3.2": wasip3::clocks::types,
        "wasi:http/types@0.3.2": wasip3::http::types,
    },
    generate_all,
});

struct FanOut;
wasip3::http::service::export!(FanOut);

impl Guest for FanOut {
    async fn handle(incoming: Request) -> Result<Response, ErrorCode> {
        let headers = incoming.get_headers();
        let path = incoming.get_path_with_query().unwrap_or_default();

        if let Some(binding) = path.strip_prefix("/via-http/") {
            let answer = client::send(request_to(binding, &headers)).await;
            return Ok(text(line(binding, answer).await));
        }

        let targets = targets();
        let lines = join_all(targets.iter().map(async |binding| {
            let answer = services::fetch(binding.clone(), request_to(binding, &headers)).await;
            line(binding, answer).await
        }));
        Ok(text(lines.await.concat()))
    }
}

/// The service bindings that the variable `TARGETS` names.
fn targets() -> Vec<String> {
    let variables = get_environment();
    let targets = variables.iter().find(|(name, _)| name == "TARGETS");
    let names = targets.map_or("", |(_, value)| value).split(',');
    names.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
}

/// `GET http://<binding>.internal/`, with the headers that came in.
fn request_to(binding: &str, headers: &Fields) -> Request {
    let headers = headers.clone();
    // These two spoke of the request that came in, of its address and its body.
    let _ = headers.delete("host");
    let _ = headers.delete("content-length");

    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(headers, None, trailers, None);
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(&format!("{binding}.internal")));
    let _ = request.set_path_with_query(Some("/"));
    request
}

async fn line(binding: &str, answer: Result<Response, ErrorCode>) -> String {
    match answer {
        Ok(response) => {
            let status = response.get_status_code();
            let (_, received) = wit_future::new(|| Ok(()));
            let (body, _trailers) = Response::consume_body(response, received);
            let body = body.collect().await;
            format!("{binding}: {status} {}\n", String::from_utf8_lossy(&body).trim_end())
        }
        Err(error) => format!("{binding}: error {error:?}\n"),
    }
}

fn text(text: String) -> Response {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let (mut writer, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    spawn_local(async move {
        writer.write_all(text.into_bytes()).await;
    });
    response
}
