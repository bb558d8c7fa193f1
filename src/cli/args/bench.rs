//! The words after `bench`: what to measure, and how hard.

use std::path::PathBuf;

use clap::Args;

/// What stands below the help of `bench`.
const EXAMPLES: &str = "\
Without --url and --over-http the versions run in this process: their modules and settings come from the node, whose traffic \
they do not meet. Key-value namespaces and objects are empty there, secrets need --secrets-file.\n\n\
Examples:
  sluice bench my-worker                            the versions of the active deployment
  sluice bench my-worker --versions 3,4             version 4 beside version 3
  sluice bench my-worker --versions v1,.            the project of this folder, as it is now, beside the version tagged v1
  sluice bench --versions old.wasm,new.wasm         two files; no node has to run
  sluice bench my-worker --rate 500 --duration 30s  500 requests a second, whatever the answers take
  sluice bench my-worker --over-http                the running node, by overrides, with all that it is bound to
  sluice bench my-worker --url http://host:8787/ --versions <id>,<id>";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// What to measure, the baseline first: ids, beginnings of ids, numbers or tags of versions; `.wasm` files; `.` for the
    /// project of this folder [default: the versions of the active deployment]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub versions: Vec<String>,
    /// Send the requests over HTTP to this address
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Send the requests over HTTP to the running node, at the worker's own address
    #[arg(long, conflicts_with = "url")]
    pub over_http: bool,
    /// How long to measure, all versions together
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub duration: String,
    /// How long to send requests that are not counted, before
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub warmup: String,
    /// Send so many requests a second, and count each from when it was due [default: the next when the last was answered]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: Option<u64>,
    /// Requests that may be under way at once [default: 1, and 256 with --rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub connections: Option<u64>,
    /// The path and query to ask for [default: /, and with --url that of the URL]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// The method [default: GET, and POST with --body]
    #[arg(long)]
    pub method: Option<String>,
    /// A request header; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The request's body; `@FILE` is what the file holds
    #[arg(long, value_name = "TEXT|@FILE")]
    pub body: Option<String>,
    /// Secrets for the versions, as JSON or .env: a node does not tell them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "over_http"])]
    pub secrets_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
