//! The words after `rollout`.

use clap::{Args, Subcommand};

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice rollout start my-worker --to 7                       1, 5, 25, 50, 100 %, five minutes each
  sluice rollout start my-worker --to v2 --steps 10,50,100 --every 1m --watch
  sluice rollout start my-worker --to 7 --guard 'error_rate<1%' --guard 'p99<1.2x'
  sluice rollout status my-worker
  sluice rollout step my-worker                               the next step, without waiting for its time

Guards (quote them, `<` is the shell's):
  error_rate<1%     at most 1 % of the new version's requests are errors (an outcome other than ok, or a status from 500 on)
  error_rate<+1%    at most one percentage point more than of the old version's
  error_rate<1.5x   at most one and a half times the old version's share
  p99<250ms         99 % of its requests take at most 250 ms; also p50, p90, p95, p999, and cpu_p50 and so on for CPU time
  p99<1.2x          at most 1.2 times what the old version takes over the same time

A step follows when it has stood for its time, every guard holds, and there were enough requests to say so. A guard that is
broken gives everything back to the old version at once.
With --watch the exit code is the outcome: 0 done, 1 rolled back, aborted or superseded.";

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Start one; its first step is live when this returns
    Start(RolloutStartArgs),
    /// How it stands: what both versions did, each guard, what comes next and when
    Status(RolloutStatusArgs),
    /// Keep it where it is, whatever the guards say
    Pause(RolloutChangeArgs),
    /// Let it go on; its step begins anew
    Resume(RolloutChangeArgs),
    /// Take the next step now: before its time and though guards lack data, but not past a broken guard
    Step(RolloutChangeArgs),
    /// Give everything back to the old version
    Abort(RolloutChangeArgs),
}

#[derive(Debug, Args)]
pub struct RolloutStartArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// The version that is to get everything: an id, the beginning of one, #3 or 3, or a tag
    #[arg(long, value_name = "VERSION")]
    pub to: String,
    /// Rising percentages, the last is 100 [default: 1,5,25,50,100]
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    pub steps: Vec<f64>,
    /// How long each step stands at the least, such as 30s, 5m or 2h [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub every: Option<String>,
    /// What the new version must keep to; may be repeated [default: 'error_rate<+1%' and 'p99<1.2x']
    #[arg(long = "guard", value_name = "GUARD")]
    pub guards: Vec<String>,
    /// Start although secrets have changed since that version
    #[arg(long)]
    pub force: bool,
    /// Follow it to its end
    #[arg(long)]
    pub watch: bool,
    /// Print JSON; with --watch one object a line, whenever something has changed
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RolloutStatusArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// Follow it to its end
    #[arg(long)]
    pub watch: bool,
    /// Print JSON; with --watch one object a line, whenever something has changed
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RolloutChangeArgs {
    /// [default: the worker of the file]
    pub worker: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::args::Cli;

    #[test]
    fn a_rollout_names_the_version_and_may_say_how() {
        let code = |line: &str| Cli::try_parse_from(line.split(' ')).map_or_else(|error| error.exit_code(), |_| 0);
        for line in [
            "sluice rollout start w --to 7 --steps 1,5,25,50,100 --every 5m --guard error_rate<1% --guard p99<1.2x",
            "sluice rollout start --to v2 --watch --force --json",
            "sluice rollout status w --watch --json",
            "sluice rollout pause w",
            "sluice rollout resume",
            "sluice rollout step w --json",
            "sluice rollout abort w --json",
        ] {
            assert_eq!(code(line), 0, "{line}");
        }
        for line in ["sluice rollout", "sluice rollout start w", "sluice rollout start --to 7 --steps one"] {
            assert_eq!(code(line), 2, "{line}");
        }
    }
}
