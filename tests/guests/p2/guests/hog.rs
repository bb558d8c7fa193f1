//! Takes memory, and touches it, until there is no more.

use test_guests_p2::{IncomingRequest, ResponseOutparam, worker};

worker!(handle);

fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}
