//! Placeholder while the table of routes is being written.
