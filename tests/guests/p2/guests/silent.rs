//! Returns without having set a response. Asked for `/wait`, it goes on for a moment after it has let go of the handle to set
//! it with; asked for `/forget`, it does not even let go.

use std::time::Duration;
use test_guests_p2::{IncomingRequest, ResponseOutparam, sleep, worker};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    match request.path_with_query().as_deref() {
        Some("/forget") => std::mem::forget(out),
        Some("/wait") => {
            drop(out);
            sleep(Duration::from_millis(20));
            sleep(Duration::from_millis(20));
        }
        _ => drop(out),
    }
}
