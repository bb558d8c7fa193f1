//! What all tests share: a node of one's own, guests that are built once, and short ways to say common things.

pub mod browser;
pub mod cli;
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
