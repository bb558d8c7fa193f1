//! Answers `200` with the body `first`, then tries to set a second response.

use test_guests_p2::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam, answer, worker};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let handle = out.handle();
    answer(out, 200, "first\n");

    // Setting a response gives the handle away. Using it once more is what no well-behaved guest
    // can do: the call traps, after the first answer is complete.
    let again = unsafe { ResponseOutparam::from_handle(handle) };
    ResponseOutparam::set(again, Ok(OutgoingResponse::new(Fields::new())));
}
