//! Computes for ever instead of answering.

use test_guests_p2::{IncomingRequest, ResponseOutparam, worker};

worker!(handle);

fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        std::hint::black_box(());
    }
}
