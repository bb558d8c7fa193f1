//! What all tests share: a node of one's own, guests that are built once, and short ways to say common things.

pub mod browser;
pub mod cli;
pub mod collector;
pub mod connection;
pub mod control;
pub mod guest;
pub mod http;
pub mod node;
pub mod peer;
pub mod records;
pub mod tail;
pub mod time;
pub mod wrangler;

pub use cli::{Folder, Ran};
pub use connection::Connection;
pub use control::{KEY, OVERRIDES, list, text};
pub use guest::{example, test_guest};
pub use node::{Node, Upload, Version};
pub use peer::Peer;
pub use records::Record;
pub use time::{now, until};

/// Runs `work` in so many threads at once; what each gave, in their order.
pub fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}
