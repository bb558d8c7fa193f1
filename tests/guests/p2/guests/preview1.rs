//! A guest of the older kind: the standard library's own output and environment, by WASI preview 1,
//! beside a handler for WASI 0.2. It prints one line and answers with the variable `GREETING`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, worker};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    println!("preview1 was asked for {}", request.path_with_query().unwrap_or_default());
    let greeting = std::env::var("GREETING").unwrap_or("no GREETING".to_string());
    answer(out, 200, &format!("{greeting}\n"));
}
