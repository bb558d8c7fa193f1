//! Writes `out 1` and `out 2` to its standard output and `err 1` to its standard error, then answers `ok`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, wasip2, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let stdout = wasip2::cli::stdout::get_stdout();
    let stderr = wasip2::cli::stderr::get_stderr();
    let _ = write(&stdout, b"out 1\n");
    // A line is a line, in however many pieces it comes.
    let _ = write(&stdout, b"out ");
    let _ = write(&stdout, b"2\n");
    let _ = write(&stderr, b"err 1\n");
    answer(out, 200, "ok\n");
}
