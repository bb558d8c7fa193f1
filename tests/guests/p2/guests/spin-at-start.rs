//! Computes for ever, when it is instantiated. Its handler would answer `ok`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, at_start, worker};

worker!(handle);
at_start!(start);

fn start() {
    loop {
        std::hint::black_box(());
    }
}

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    answer(out, 200, "ok\n");
}
