//! What can be typed: wrangler's grammar, and what wrangler has not. Nothing is decided here; [`super::settings`] says what
//! the words mean and [`super::commands`] does it. No command ever asks a question.

mod bench;
mod code_update;
mod kv;
mod objects;
mod rollout;
mod tail;
mod versions;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bench::BenchArgs;
pub use code_update::{CodeUpdateArgs, joined};
pub use kv::{BesideArgs, KvBulkCommand, KvCommand, KvKeyCommand, KvNamespaceCommand, NamespaceArgs};
pub use objects::{ObjectArgs, ObjectsCommand};
pub use rollout::{RolloutChangeArgs, RolloutCommand, RolloutStartArgs, RolloutStatusArgs};
pub use tail::{TailArgs, TailFormat, TailStatus};
pub use versions::{
    DeploymentsCommand, ListArgs, NoteArgs, RollbackArgs, SecretBulkArgs, SecretCommand, SecretPutArgs,
    VersionsCommand, VersionsDeployArgs, VersionsSecretCommand,
};

/// Hosts WebAssembly workers and versions them: immutable versions, gradual deployments, rollbacks.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 100)]
#[command(
    after_help = "Start with `sluice demo`, or `sluice init my-worker`, then `sluice serve` and `sluice deploy`.\n\
    Exit codes: 0 done, 1 failed, 2 typed wrongly."
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Common {
    /// The configuration file [default: the nearest wrangler.json, .jsonc or .toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The environment of the file, `env.<ENV>`
    #[arg(short, long, global = true)]
    pub env: Option<String>,
    /// The worker's name, instead of the file's
    #[arg(long, global = true)]
    pub name: Option<String>,
    /// The node's folder [default: ./.sluice; clients look in the folders above as well]
    #[arg(long, global = true, value_name = "DIR", env = "SLUICE_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// The control API of a node elsewhere, such as http://127.0.0.1:8788 (its token: SLUICE_API_TOKEN)
    #[arg(long, global = true, value_name = "ORIGIN", env = "SLUICE_API", hide_env_values = true)]
    pub api: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node: the data listener and the control API
    #[command(after_help = "\
        Traces and metrics go to an OpenTelemetry collector if OTEL_EXPORTER_OTLP_ENDPOINT names one, such as\n\
        http://127.0.0.1:4318; the other standard variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, …) hold too.\n\
        SLUICE_LOG says how much the node logs, in the form of RUST_LOG; a release build knows no level below `debug`.")]
    Serve(ServeArgs),
    /// Run the project of this folder on a node of its own; rebuild and redeploy on every change
    Dev(DevArgs),
    /// Upload a version and give it all the traffic
    Deploy(DeployArgs),
    /// Upload, list and deploy versions
    Versions {
        #[command(subcommand)]
        command: VersionsCommand,
    },
    /// What is deployed, and what was
    Deployments {
        #[command(subcommand)]
        command: DeploymentsCommand,
    },
    /// Give all the traffic back to an older version
    Rollback(RollbackArgs),
    /// Give a version more and more of the traffic while its guards hold; back at once if they do not
    #[command(after_help = rollout::EXAMPLES)]
    Rollout {
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Change secrets, each change deployed at once
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Key-value namespaces and what they hold
    Kv {
        #[command(subcommand)]
        command: KvCommand,
    },
    /// Durable Objects: which there are, which version each of them runs, and why
    #[command(after_help = objects::EXAMPLES)]
    Objects {
        #[command(subcommand)]
        command: ObjectsCommand,
    },
    /// Watch a worker's requests as they end: their outcomes, what the guest printed, what it failed with
    Tail(TailArgs),
    /// Open the node's dashboard in the browser, already signed in
    Dashboard(DashboardArgs),
    /// Delete a worker with all its versions
    Delete(DeleteArgs),
    /// Say which version a request would get, and why
    Explain(ExplainArgs),
    /// Measure versions of a worker beside each other, and say which is better
    Bench(BenchArgs),
    /// Make a new project
    Init(InitArgs),
    /// Show the whole thing at work: two versions, a split, an override, a sticky key, a rollback, Durable Objects
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where requests for workers come in; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Where the control API and the dashboard are
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8788")]
    pub control_listen: SocketAddr,
    /// The worker that takes what matches no host and no route; it may be uploaded later
    #[arg(long, value_name = "NAME")]
    pub default_worker: Option<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// How a node behaves, whoever starts it.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// What guests may call: `public`, `any`, `none`, or a list of hosts, CIDRs and these words
    #[arg(long, value_name = "POLICY")]
    pub outbound: Option<String>,
    /// Who may override the version of a request: any, loopback, token or off
    #[arg(long, value_name = "WHO")]
    pub overrides: Option<String>,
    /// Tell the version and the reason in the response header `sluice-version`
    #[arg(long)]
    pub version_header: bool,
    /// Write a line for every request to this file, or to stdout with `-`; SIGHUP opens the file anew
    #[arg(long, value_name = "FILE|-")]
    pub request_log: Option<String>,
    /// Put the request log aside as FILE.1 when it has grown to this (five old files are kept) [default: 100MiB]
    #[arg(long, value_name = "SIZE")]
    pub request_log_max_size: Option<String>,
    /// Memory that one instance of a guest may use, such as 128MiB
    #[arg(long, value_name = "SIZE")]
    pub guest_memory: Option<String>,
    /// Compiled code kept on disk; what was used longest ago goes first [default: 4GiB]
    #[arg(long, value_name = "SIZE")]
    pub artifact_cache: Option<String>,
    /// How long requests may go on after the node was told to stop, such as 30s
    #[arg(long, value_name = "TIME")]
    pub drain: Option<String>,
    /// Instances that can live at once
    #[arg(long, value_name = "COUNT")]
    pub instance_slots: Option<u32>,
    /// Which 0.2 guests have guard pages around their memory, where each request has an instance of its own: `always`, `never`, or `auto`, all but those that compute little
    #[arg(long, value_name = "WHEN")]
    pub guard_pages: Option<String>,
    /// How long a Durable Object stays in memory when nothing happens in it, such as 10s
    #[arg(long, value_name = "TIME")]
    pub object_idle: Option<String>,
    /// Durable Objects that can be in memory at once [default: 2000]
    #[arg(long, value_name = "COUNT")]
    pub live_objects: Option<u32>,
}

#[derive(Debug, Args)]
pub struct DevArgs {
    /// The port for requests [default: `dev.port` of the file, or 8787]
    #[arg(long)]
    pub port: Option<u16>,
    /// The address to listen on [default: `dev.ip` of the file, or 127.0.0.1]
    #[arg(long)]
    pub ip: Option<String>,
    /// The port of the control API
    #[arg(long, default_value_t = 8788)]
    pub control_port: u16,
    /// Set a variable, as in the file's `vars`
    #[arg(long = "var", value_name = "KEY:VALUE")]
    pub vars: Vec<String>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    pub upload: UploadArgs,
    #[command(flatten)]
    pub code_update: CodeUpdateArgs,
}

#[derive(Debug, Args)]
pub struct UploadArgs {
    /// The module or shim, instead of the file's `main`
    #[arg(value_name = "MAIN")]
    pub main: Option<PathBuf>,
    /// A name for the version, such as v1.2 (at most 100 bytes; need not be unique)
    #[arg(long)]
    pub tag: Option<String>,
    /// What this version is for
    #[arg(short, long)]
    pub message: Option<String>,
    /// Make `<ALIAS>-<worker>.localhost` lead to this version
    #[arg(long, value_name = "ALIAS")]
    pub preview_alias: Option<String>,
    /// Set a variable, as in the file's `vars`
    #[arg(long = "var", value_name = "KEY:VALUE")]
    pub vars: Vec<String>,
    /// Secrets for this version, as JSON or .env
    #[arg(long, value_name = "FILE")]
    pub secrets_file: Option<PathBuf>,
    /// Keep variables of the version before that the file does not name
    #[arg(long)]
    pub keep_vars: bool,
    /// Build and check the file, and show what would be sent; nothing is uploaded
    #[arg(long)]
    pub dry_run: bool,
    /// Instead of the file's
    #[arg(long, value_name = "DATE")]
    pub compatibility_date: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub wrangler: WranglerFlags,
}

/// Flags of wrangler that mean nothing here, so that its scripts go on working.
#[derive(Debug, Args)]
pub struct WranglerFlags {
    #[arg(long, hide = true)]
    pub no_bundle: bool,
    #[arg(long, hide = true)]
    pub minify: bool,
    #[arg(long, hide = true)]
    pub upload_source_maps: bool,
    #[arg(long, hide = true)]
    pub strict: bool,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// Delete it although others refer to it
    #[arg(long)]
    pub force: bool,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// The worker whose page to open [default: all workers]
    pub worker: Option<String>,
    /// Print the address instead; it signs in once, within a minute
    #[arg(long)]
    pub print: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// A version key, as in the header `Cloudflare-Workers-Version-Key`
    #[arg(long = "key")]
    pub keys: Vec<String>,
    /// A request header
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// A file of keys, one a line; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to make; its name becomes the worker's
    pub folder: PathBuf,
    /// Which WASI the worker speaks
    #[arg(long, value_enum, default_value_t = Wasi::P2)]
    pub wasi: Wasi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wasi {
    #[value(name = "0.2")]
    P2,
    #[value(name = "0.3")]
    P3,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End when the show is over, instead of staying up until Ctrl-C
    #[arg(long)]
    pub exit: bool,
    /// How many requests to send
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn code(line: &str) -> i32 {
        Cli::try_parse_from(line.split_whitespace()).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn the_grammar_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wranglers_habits_are_understood() {
        for line in [
            "sluice deploy --no-bundle --minify --tag v1 --message m --keep-vars --var A:b --var B:c",
            "sluice deploy dist/worker.wasm --dry-run --env staging",
            "sluice versions upload --preview-alias next --secrets-file s.json -c w.toml",
            "sluice versions deploy a@20 b@80% -y --message m",
            "sluice versions deploy --version-id a b --percentage 20 80 --dry-run",
            "sluice versions deploy a@75 --version-tag t@25 u",
            "sluice versions list --json --name w",
            "sluice versions secret put K --message m --tag t",
            "sluice versions secret list --latest-version",
            "sluice deployments status --json",
            "sluice rollback -y -m why",
            "sluice rollback --durable-objects-code-update-mode immediate 3",
            "sluice deploy --durable-objects-code-update-mode deferred a.wasm",
            "sluice versions deploy a@20 --durable-objects-code-update-mode=deferred b@80",
            "sluice rollback dc8dcd28 --yes",
            "sluice secret bulk secrets.json -e live",
            "sluice delete w --force",
            "sluice dashboard w --print",
            "sluice kv namespace create notes --json",
            "sluice kv namespace list",
            "sluice kv namespace rename old --new-name new",
            "sluice kv namespace rename --namespace-id i --new-name new",
            "sluice kv namespace delete notes -y",
            "sluice kv namespace delete --namespace-id i --skip-confirmation",
            "sluice kv key put K V --binding NOTES --ttl 60 --metadata {} --remote",
            "sluice kv key put K --path f --namespace-id i --expiration 5",
            "sluice kv key get K --binding NOTES --text --remote",
            "sluice kv key list --prefix p --namespace-id i",
            "sluice kv key delete K --binding NOTES",
            "sluice kv bulk put f.json --binding NOTES --remote",
            "sluice kv bulk get f.json --binding NOTES",
            "sluice kv bulk delete f.json --binding NOTES --force",
            "sluice objects list w --class Counter --json",
            "sluice objects view alice --class Counter --json --name w",
            "sluice objects explain alice",
            "sluice objects reset alice --by-name",
            "sluice objects delete alice -y",
            "sluice rollback --dry-run",
            "sluice explain w --key k --key l --header X:y",
            "sluice tail w --format pretty --status error --status ok --ip self --version-id 3",
            "sluice bench",
            "sluice bench w --versions 3,v1 --rate 100 --duration 30s --warmup 2s --json",
            "sluice bench --versions a.wasm,b.wasm --connections 8 --path /x --method PUT --header A:b --body @f",
            "sluice bench w --url http://127.0.0.1:1/ --versions 1",
            "sluice init d --wasi 0.3",
            "sluice serve --listen 127.0.0.1:0 --request-log - --outbound none",
        ] {
            assert_eq!(code(line), 0, "{line}");
        }
        for line in [
            "sluice versions upload --durable-objects-code-update-mode immediate",
            "sluice rollback --durable-objects-code-update-mode soon",
        ] {
            assert_eq!(code(line), 2, "{line}");
        }
        for line in [
            "sluice",
            "sluice nonsense",
            "sluice rollback a b",
            "sluice secret put",
            "sluice serve --listen x",
            "sluice objects view",
            "sluice bench --rate 0",
            "sluice bench --connections none",
            "sluice bench --url http://h/ --over-http",
            "sluice bench --url http://h/ --secrets-file f",
        ] {
            assert_eq!(code(line), 2, "{line}");
        }
    }
}
