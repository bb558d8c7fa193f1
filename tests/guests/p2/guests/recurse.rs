//! Calls itself without end.

use test_guests_p2::{IncomingRequest, ResponseOutparam, worker};

worker!(handle);

fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
    std::hint::black_box(descend(std::hint::black_box(1)));
}

/// Its result needs the deeper one, so no compiler can make a loop of it. It keeps nothing in
/// linear memory, so it is the engine's own stack that ends first.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 { 0 } else { descend(depth.wrapping_add(2)).rotate_left(5) ^ depth }
}
