//! The words after `tail`: which requests to watch, and how to show them.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct TailArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// How events are printed [default: pretty on a terminal, else json, one event a line]
    #[arg(long, value_enum)]
    pub format: Option<TailFormat>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Only requests that ended like this; may be repeated
    #[arg(long, value_enum)]
    pub status: Vec<TailStatus>,
    /// Only requests with this method; may be repeated
    #[arg(long)]
    pub method: Vec<String>,
    /// Only requests with this header, and with this text in its value
    #[arg(long, value_name = "NAME[: TEXT]")]
    pub header: Option<String>,
    /// Only requests from this address, or `self` for your own; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<String>,
    /// Only requests whose guest printed this text
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only this part of the requests, between 0 and 1
    #[arg(long, value_name = "RATE")]
    pub sampling_rate: Option<f64>,
    /// Only requests to this version: an id, the beginning of one, #3 or 3, or a tag
    #[arg(long, value_name = "VERSION")]
    pub version_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailFormat {
    Json,
    Pretty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailStatus {
    Ok,
    Error,
    Canceled,
}
