//! Makes many requests, one after another, to the URL in the header `x-url`: as many as the
//! variable `COUNT` says, or 2,000. Answers `<number> of <number> succeeded, first error: <error>`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, get, header, wasip2, worker};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let variables = wasip2::cli::environment::get_environment();
    let count = variables.iter().find(|(name, _)| name == "COUNT");
    let count = count.and_then(|(_, value)| value.parse().ok()).unwrap_or(2000);
    let url = header(&request, "x-url").unwrap_or_default();

    let mut succeeded = 0;
    let mut first_error = None;
    for _ in 0..count {
        match get(&url) {
            Ok(_) => succeeded += 1,
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    let first_error = first_error.as_deref().unwrap_or("none");
    answer(out, 200, &format!("{succeeded} of {count} succeeded, first error: {first_error}\n"));
}
