//! Returns without having set a response.

use test_guests_p2::{IncomingRequest, ResponseOutparam, worker};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    drop(out);
}
