//! Writes 10 MiB to its standard output, in lines of 1 KiB, then answers `flooded`.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, wasip2, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let four_lines = line.repeat(4);
    let stdout = wasip2::cli::stdout::get_stdout();
    for _ in 0..10 * 1024 / 4 {
        if write(&stdout, &four_lines).is_err() {
            break;
        }
    }
    answer(out, 200, "flooded\n");
}
