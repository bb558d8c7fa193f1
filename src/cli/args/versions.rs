//! The words after `versions`, `deployments`, `rollback` and `secret`: all that names or makes versions and deployments.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CodeUpdateArgs, UploadArgs};

#[derive(Debug, Subcommand)]
pub enum VersionsCommand {
    /// Upload a version without giving it traffic
    Upload(UploadArgs),
    /// The newest versions that can be deployed
    List(ListArgs),
    /// One version: its bindings, its module, its addresses
    View {
        /// An id, the beginning of one, #3 or 3, or a tag
        version: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Split the traffic between versions
    Deploy(VersionsDeployArgs),
    /// Delete a version that is neither the latest nor deployed
    Delete {
        /// An id, the beginning of one, #3 or 3, or a tag
        version: String,
        /// Accepted for habit; nothing is asked
        #[arg(short, long)]
        yes: bool,
    },
    /// Change secrets in a new version, without deploying it
    Secret {
        #[command(subcommand)]
        command: VersionsSecretCommand,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// How many
    #[arg(long, default_value_t = 10)]
    pub limit: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VersionsDeployArgs {
    /// A version and its share: `<version>@20`, `<version>@12.5%`; without a share it takes an equal part of the rest.
    /// A version is an id, the beginning of one, #3 or 3, or a tag
    #[arg(value_name = "VERSION[@PERCENT]")]
    pub specs: Vec<String>,
    /// Versions by id; the n-th takes the n-th --percentage
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub version_id: Vec<String>,
    /// Shares of the --version-id
    #[arg(long, value_name = "PERCENT", num_args = 1..)]
    pub percentage: Vec<f64>,
    /// Versions by tag
    #[arg(long, value_name = "TAG[@PERCENT]", num_args = 1..)]
    pub version_tag: Vec<String>,
    /// Why
    #[arg(short, long)]
    pub message: Option<String>,
    /// Accepted for habit; nothing is asked
    #[arg(short, long)]
    pub yes: bool,
    /// Check it and say how much traffic would move, and which Durable Objects; nothing is deployed
    #[arg(long)]
    pub dry_run: bool,
    /// Deploy although secrets have changed since
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub code_update: CodeUpdateArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum DeploymentsCommand {
    /// The newest deployments, the active one last
    List(ListArgs),
    /// The active deployment
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// An id, the beginning of one, #3 or 3, or a tag [default: the last version that had all the traffic]
    pub version: Option<String>,
    /// Why
    #[arg(short, long)]
    pub message: Option<String>,
    /// Roll back although secrets have changed since
    #[arg(short = 'y', long, visible_alias = "yes")]
    pub force: bool,
    /// Check it and say how much traffic would move, and which Durable Objects; nothing is rolled back
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub code_update: CodeUpdateArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret; its value is read from stdin
    Put(SecretPutArgs),
    /// The names of the secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a secret
    Delete { key: String },
    /// Set and delete several secrets at once
    Bulk(SecretBulkArgs),
}

#[derive(Debug, Subcommand)]
pub enum VersionsSecretCommand {
    /// Set a secret; its value is read from stdin
    Put {
        #[command(flatten)]
        put: SecretPutArgs,
        #[command(flatten)]
        note: NoteArgs,
    },
    /// The names of the secrets of what is deployed
    List {
        /// Of the latest version instead, deployed or not
        #[arg(long)]
        latest_version: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a secret
    Delete {
        key: String,
        #[command(flatten)]
        note: NoteArgs,
    },
    /// Set and delete several secrets at once
    Bulk {
        #[command(flatten)]
        bulk: SecretBulkArgs,
        #[command(flatten)]
        note: NoteArgs,
    },
}

#[derive(Debug, Args)]
pub struct SecretPutArgs {
    pub key: String,
    /// Read the value from this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub value_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SecretBulkArgs {
    /// JSON (`null` deletes) or .env [default: stdin]
    pub file: Option<PathBuf>,
}

/// What a version that a secret makes says of itself.
#[derive(Debug, Args)]
pub struct NoteArgs {
    #[arg(long)]
    pub message: Option<String>,
    #[arg(long)]
    pub tag: Option<String>,
}
