//! Answers with a body of `?bytes=N` letters `x`, as fast as the host takes them. 1 MiB if not told.

use test_guests_p2::{IncomingRequest, OutgoingBody, ResponseOutparam, query, send_head, worker};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let mut left: usize = query(&request, "bytes").unwrap_or(1 << 20);
    let body = send_head(out, 200, &[("content-type", "application/octet-stream")]);
    let stream = body.write().expect("the stream is taken once");
    let ready = stream.subscribe();
    let chunk = [b'x'; 16 * 1024];
    while left > 0 {
        match stream.check_write() {
            Ok(0) => ready.block(),
            Ok(room) => {
                let length = chunk.len().min(left).min(room as usize);
                if stream.write(&chunk[..length]).is_err() {
                    return;
                }
                left -= length;
            }
            Err(_) => return, // The caller has gone.
        }
    }
    drop(ready);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
