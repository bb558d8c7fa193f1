//! Which machine said it: figures of two machines, or of one that was busy and one that was not, are not to be compared.

use serde::Serialize;

use crate::app::lab;

/// The machine and the program, at the start of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Fingerprint {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// How fast the cores may run, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Programs that wanted a core, on average of the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    pub sluice: &'static str,
    /// `release`, or `debug`, whose own part is many times as large.
    pub build: &'static str,
    pub wasmtime: &'static str,
}

impl Fingerprint {
    /// Reads it.
    pub fn take() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let cpu = read("/proc/cpuinfo").and_then(|text| field(&text, "model name").map(str::to_owned));
        let load = read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").map_or_else(
                || std::env::consts::OS.to_owned(),
                |release| format!("{} {release}", std::env::consts::OS),
            ),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_average: load,
            sluice: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            wasmtime: lab::engine_version(),
        }
    }

    /// The same in a line or two.
    pub fn lines(&self) -> Vec<String> {
        let governor = self.governor.as_ref().map(|governor| format!(", governor {governor}")).unwrap_or_default();
        let load = self.load_average.map(|load| format!(", load average {load:.2}")).unwrap_or_default();
        vec![
            format!("{}, {} cores{governor}", self.cpu, self.cores),
            format!("{}, sluice {} ({}), wasmtime {}{load}", self.kernel, self.sluice, self.build, self.wasmtime),
        ]
    }

    /// What of it spoils the figures.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.build == "debug" {
            remarks.push(
                "this is a debug build of sluice: its own part of each request is many times too large".to_owned(),
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "cores of one machine")]
        let half = self.cores as f64 / 2.0;
        if let Some(load) = self.load_average.filter(|load| *load > half) {
            remarks
                .push(format!("the machine was busy before the start (load average {load:.2}): expect wide intervals"));
        }
        remarks
    }
}

/// The first value of a name in `/proc/cpuinfo`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_read_by_its_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2GHz"));
        assert_eq!(field(text, "bogus"), None);
        let here = Fingerprint::take();
        assert!(here.cores > 0 && here.wasmtime.starts_with("48."), "{here:?}");
    }
}
