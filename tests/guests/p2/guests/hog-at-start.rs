//! Takes memory until there is no more, when it is instantiated. Its handler would answer `ok`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, at_start, worker};

worker!(handle);
at_start!(start);

fn start() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    answer(out, 200, "ok\n");
}
