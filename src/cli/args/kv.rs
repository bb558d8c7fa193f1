//! The words after `kv`: namespaces, single keys, and many at once.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Make, list, rename and delete namespaces
    Namespace {
        #[command(subcommand)]
        command: KvNamespaceCommand,
    },
    /// Write, read, list and delete single keys
    Key {
        #[command(subcommand)]
        command: KvKeyCommand,
    },
    /// Write, read and delete many keys at once
    Bulk {
        #[command(subcommand)]
        command: KvBulkCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum KvNamespaceCommand {
    /// Make a namespace, and show what to add to the configuration
    Create {
        /// Its title; unique on the node
        title: String,
        /// The binding in the configuration that is shown
        #[arg(long)]
        binding: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// All namespaces
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a namespace another title; its id and what it holds stay
    Rename {
        /// Its title now
        title: Option<String>,
        #[arg(long, value_name = "ID")]
        namespace_id: Option<String>,
        #[arg(long, value_name = "TITLE")]
        new_name: String,
    },
    /// Delete a namespace with all that it holds
    Delete {
        /// Its title
        title: Option<String>,
        #[command(flatten)]
        of: NamespaceArgs,
        /// Accepted for habit; nothing is asked
        #[arg(short = 'y', long = "skip-confirmation")]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum KvKeyCommand {
    /// Write a key
    Put {
        key: String,
        /// The value; or --path
        value: Option<String>,
        /// Read the value from this file; `-` is stdin
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        path: Option<PathBuf>,
        #[command(flatten)]
        beside: BesideArgs,
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Print the bytes of a value, as they are
    Get {
        key: String,
        /// Accepted for habit: the bytes are the text
        #[arg(long)]
        text: bool,
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Keys in the order of their bytes
    List {
        /// Only those that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Delete a key; one that is not there is no error
    Delete {
        key: String,
        #[command(flatten)]
        of: NamespaceArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum KvBulkCommand {
    /// Write the pairs of a file: [{"key", "value", "base64"?, "metadata"?, "expiration"?, "expiration_ttl"?}, …]
    Put {
        file: PathBuf,
        #[command(flatten)]
        beside: BesideArgs,
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Print the values of the keys in a file, as JSON: [key, …]
    Get {
        file: PathBuf,
        /// Accepted for habit: it is JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Delete the keys in a file: [key, …]
    Delete {
        file: PathBuf,
        /// Accepted for habit; nothing is asked
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        of: NamespaceArgs,
    },
}

/// Which namespace.
#[derive(Clone, Debug, Args)]
pub struct NamespaceArgs {
    /// The namespace by its id
    #[arg(long, value_name = "ID", conflicts_with = "binding")]
    pub namespace_id: Option<String>,
    /// The namespace by its binding in the configuration
    #[arg(long)]
    pub binding: Option<String>,
    #[arg(long, hide = true)]
    pub remote: bool,
}

/// What is kept beside a value.
#[derive(Clone, Debug, Args)]
pub struct BesideArgs {
    /// Seconds that the key lives, at least 60
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<i64>,
    /// The Unix time at which it ends, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub expiration: Option<i64>,
    /// JSON that is kept with the value, at most 1,024 bytes
    #[arg(long, value_name = "JSON")]
    pub metadata: Option<String>,
}
