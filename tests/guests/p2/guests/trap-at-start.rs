//! Panics, when it is instantiated. Its handler would answer `ok`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, at_start, worker};

worker!(handle);
at_start!(start);

fn start() {
    panic!("this guest never starts");
}

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    answer(out, 200, "ok\n");
}
