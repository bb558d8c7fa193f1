//! What all tests share: a node of one's own, guests that are built once, and short ways to say common things.

pub mod guest;
pub mod http;
pub mod node;
pub mod wrangler;

pub use guest::{example, test_guest};
pub use node::{Node, Upload, Version};
