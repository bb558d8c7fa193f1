//! `bare-hyper`: the server that `compare.sh` measures others against. It prints its address, and serves until it is killed.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "the script reads the address")]

mod hello;

use tokio::net::TcpListener;

/// As `sluice` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}", listener.local_addr()?);
    hello::serve(listener).await;
    Ok(())
}
