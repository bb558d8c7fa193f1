//! The words after `objects`: Durable Objects, looked at from outside.

use clap::{Args, Subcommand};

/// What stands below the help of `objects`.
pub(super) const EXAMPLES: &str = "\
An object is named by its name, or by its id of 64 hexadecimal digits. Objects of a worker with several classes need \
`--class` when they are named by their names.\n\n\
Examples:
  sluice objects list                       all of this project's worker
  sluice objects view alice                 the object that has this name
  sluice objects history alice              the versions it was given, by whom, and its resets
  sluice objects explain alice              the share of its version at which it would move to another
  sluice objects reset alice --name chat    it starts anew with the next request; what it stored stays
  sluice objects delete alice --class Room  what it stored goes, and its alarm";

#[derive(Debug, Subcommand)]
pub enum ObjectsCommand {
    /// The objects that have stored something, or are in memory
    List {
        /// [default: the worker of the file]
        worker: Option<String>,
        /// Only those of this class
        #[arg(long)]
        class: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One object: its version, whether it is in memory, its alarm, how much it has stored
    View {
        #[command(flatten)]
        of: ObjectArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say why an object runs its version, and when it would move to another; also of one that never was
    Explain {
        #[command(flatten)]
        of: ObjectArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which versions an object was given, by which deployments, and what happened to it on this node since the node started
    History {
        #[command(flatten)]
        of: ObjectArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have an object leave memory; what it has stored stays
    Reset {
        #[command(flatten)]
        of: ObjectArgs,
    },
    /// Delete all that an object has stored, and its alarm
    Delete {
        #[command(flatten)]
        of: ObjectArgs,
        /// Accepted for habit; nothing is asked
        #[arg(short, long)]
        yes: bool,
    },
}

/// Which object.
#[derive(Clone, Debug, Args)]
pub struct ObjectArgs {
    /// Its name, or its id of 64 hexadecimal digits
    pub object: String,
    /// Its class, where the worker has several
    #[arg(long)]
    pub class: Option<String>,
    /// Take OBJECT for a name, although it looks like an id
    #[arg(long)]
    pub by_name: bool,
}
