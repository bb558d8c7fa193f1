//! What the standard environment variables say: whether anything is exported, where to, and how much of it. Of two variables for
//! one thing that of the signal wins over the general one. What would send nothing is refused; what has a default is warned of.

use std::fmt::Display;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use crate::domain::limits::{
    METRICS_EXPORT_EVERY, OTLP_WALL_MAX, SPAN_BATCH, SPAN_BATCH_EVERY, SPANS_WAITING_MAX, SPANS_WAITING_SETTABLE,
};

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) traces: Option<Traces>,
    pub(super) metrics: Option<Metrics>,
    /// What this node is, on all that it exports.
    pub(super) resource: Resource,
    /// What was said that is not followed.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Traces {
    pub to: Destination,
    pub sampler: Sampler,
    /// Spans that may wait to be sent.
    pub waiting_max: usize,
    /// Spans that are sent at once.
    pub batch: usize,
    /// How long one waits at most.
    pub every: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub to: Destination,
    pub every: Duration,
}

/// A collector, for one kind of signal.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub endpoint: Uri,
    /// They may be credentials: marked as such, so that they are never shown.
    pub headers: HeaderMap,
    pub timeout: Duration,
}

impl Destination {
    /// The endpoint as it may be shown: a query may be a key.
    pub(super) fn shown(&self) -> String {
        let (scheme, authority) = (self.endpoint.scheme_str(), self.endpoint.authority());
        format!("{}://{}{}", scheme.unwrap_or_default(), authority.map_or("", |it| it.as_str()), self.endpoint.path())
    }
}

/// Why nothing could be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{name}` is `{value}`, and this node speaks only `http/protobuf` with a collector")]
    Protocol { name: String, value: String },
    // The value is not shown: it may hold a password.
    #[error("`{name}` is no address of a collector: {why}")]
    Endpoint { name: String, why: String },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => {
                "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the endpoint to the collector's port for HTTP, 4318 as a rule; \
                 OTEL_SDK_DISABLED=true exports nothing"
            }
            Self::Endpoint { .. } => "it looks like `http://127.0.0.1:4318`",
        }
    }
}

/// The variables, as they were found.
struct Environment<G> {
    get: G,
    warnings: Vec<String>,
}

impl Settings {
    /// What the environment of this process says; nothing, if it names no collector.
    ///
    /// # Errors
    /// It names one that cannot be spoken with.
    pub fn from_environment() -> Result<Option<Self>, Error> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let mut environment = Environment { get, warnings: Vec::new() };
        if environment.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let traces = environment.destination("TRACES")?.map(|to| environment.traces(to));
        let metrics = environment.destination("METRICS")?.map(|to| environment.metrics(to));
        if traces.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let resource = environment.resource();
        Ok(Some(Self { traces, metrics, resource, warnings: environment.warnings }))
    }
}

// === impl Environment ===

impl<G: Fn(&str) -> Option<String>> Environment<G> {
    /// A variable; an empty one counts as absent.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn warn(&mut self, name: &str, what: impl Display) {
        let warning = format!("{name}: {what}");
        // What is said for all signals is read for each.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// `OTEL_EXPORTER_OTLP_<signal>_<what>`, else the one for all signals, and its name.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| Some((self.text(&name)?, name)))
    }

    /// Where a signal goes, if it goes anywhere.
    fn destination(&mut self, signal: &str) -> Result<Option<Destination>, Error> {
        let exporter = format!("OTEL_{signal}_EXPORTER");
        match self.text(&exporter).as_deref() {
            Some("none") => return Ok(None),
            Some(others) if !others.split(',').any(|one| one.trim() == "otlp") => {
                self.warn(&exporter, format_args!("`{others}` is not offered; `otlp` and `none` are"));
                return Ok(None);
            }
            _ => {}
        }
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let endpoint = match self.text(&own) {
            Some(text) => self.endpoint(&own, &text)?,
            None => match self.text("OTEL_EXPORTER_OTLP_ENDPOINT") {
                Some(text) => {
                    let path = signal.to_ascii_lowercase();
                    self.endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{}/v1/{path}", text.trim_end_matches('/')))?
                }
                None => return Ok(None),
            },
        };
        if let Some((value, name)) = self.of_signal(signal, "PROTOCOL").filter(|(value, _)| value != "http/protobuf") {
            return Err(Error::Protocol { name, value });
        }
        if let Some((value, name)) = self.of_signal(signal, "COMPRESSION").filter(|(value, _)| value != "none") {
            self.warn(&name, format_args!("`{value}` is not offered; what is sent is not compressed"));
        }
        for what in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if let Some((_, name)) = self.of_signal(signal, what) {
                self.warn(&name, "is not followed; a collector is trusted by the public authorities' certificates");
            }
        }
        let timeout = self.of_signal(signal, "TIMEOUT").map(|(_, name)| self.millis(&name, OTLP_WALL_MAX));
        let headers = match self.of_signal(signal, "HEADERS") {
            Some((text, name)) => self.headers(&name, &text),
            None => HeaderMap::new(),
        };
        Ok(Some(Destination { endpoint, headers, timeout: timeout.unwrap_or(OTLP_WALL_MAX) }))
    }

    fn endpoint(&mut self, name: &str, text: &str) -> Result<Uri, Error> {
        let wrong = |why: &str| Error::Endpoint { name: name.to_owned(), why: why.to_owned() };
        let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins neither with `http://` nor with `https://`"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("a name and a password have no place in it, but in `OTEL_EXPORTER_OTLP_HEADERS`"));
        }
        if uri.port_u16() == Some(4317) {
            self.warn(name, "port 4317 is for gRPC as a rule, and 4318 for HTTP, which this node speaks");
        }
        Ok(uri)
    }

    fn headers(&mut self, name: &str, text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (key, value) in pairs(text) {
            match (HeaderName::from_bytes(key.as_bytes()), HeaderValue::try_from(value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(key, value);
                }
                // Not even the name is shown: who forgot the `=` has written a secret in its place.
                _ => self.warn(name, "one of the headers has no valid name or value, and is not sent"),
            }
        }
        headers
    }

    fn traces(&mut self, to: Destination) -> Traces {
        let waiting_max = self.number("OTEL_BSP_MAX_QUEUE_SIZE", SPANS_WAITING_MAX, SPANS_WAITING_SETTABLE);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", SPAN_BATCH.min(waiting_max), waiting_max);
        let every = self.millis("OTEL_BSP_SCHEDULE_DELAY", SPAN_BATCH_EVERY);
        if let Some(others) = self.text("OTEL_PROPAGATORS").filter(|text| !text.contains("tracecontext")) {
            self.warn("OTEL_PROPAGATORS", format_args!("`{others}` is not offered; it is `tracecontext`"));
        }
        Traces { to, sampler: self.sampler(), waiting_max, batch, every }
    }

    fn metrics(&mut self, to: Destination) -> Metrics {
        let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if let Some(other) = self.text(preference).filter(|text| !text.eq_ignore_ascii_case("cumulative")) {
            self.warn(preference, format_args!("`{other}` is not offered; numbers are cumulative"));
        }
        Metrics { to, every: self.millis("OTEL_METRIC_EXPORT_INTERVAL", METRICS_EXPORT_EVERY) }
    }

    fn sampler(&mut self) -> Sampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        let name = self.text(NAME).unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (by_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()),
            _ => {
                self.warn(NAME, format_args!("`{name}` is not offered; it is `parentbased_always_on`"));
                return Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
            }
        };
        if by_parent { Sampler::ParentBased(Box::new(root)) } else { root }
    }

    fn ratio(&mut self) -> f64 {
        const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.text(NAME) else { return 1.0 };
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.warn(NAME, format_args!("`{text}` is no share from 0 to 1; it is 1"));
        }
        ratio.unwrap_or(1.0)
    }

    fn number(&mut self, name: &str, otherwise: usize, max: usize) -> usize {
        let Some(text) = self.text(name) else { return otherwise };
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        if number.is_none() {
            self.warn(name, format_args!("`{text}` is no number from 1 to {max}; it is {otherwise}"));
        }
        number.unwrap_or(otherwise)
    }

    fn millis(&mut self, name: &str, otherwise: Duration) -> Duration {
        let Some(text) = self.text(name) else { return otherwise };
        let millis = text.parse().ok().filter(|millis| *millis > 0);
        if millis.is_none() {
            let otherwise = otherwise.as_millis();
            self.warn(name, format_args!("`{text}` is no number of milliseconds; it is {otherwise}"));
        }
        millis.map_or(otherwise, Duration::from_millis)
    }

    /// Each run of a node is an instance of its own: its counters begin at 0.
    fn resource(&self) -> Resource {
        let ours = [
            KeyValue::new("service.name", "sluice"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
        ];
        let said = self.text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let said: Vec<KeyValue> = pairs(&said).map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
        let name = self.text("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
        Resource::builder_empty()
            .with_attributes(ours)
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(said)
            .with_attributes(name)
            .build()
    }
}

/// `key=value,key=value`, where `%2C` is a comma in a value.
fn pairs(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        // One without `=` has an empty name, which none takes.
        let (key, value) = pair.split_once('=').unwrap_or(("", pair));
        (key.trim(), percent_decode_str(value.trim()).decode_utf8_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        Settings::from(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn with(variables: &[(&str, &str)]) -> Settings {
        read(&[&[ENDPOINT], variables].concat()).unwrap().unwrap()
    }

    fn warned(variables: &[(&str, &str)]) -> String {
        with(variables).warnings.join("\n")
    }

    fn attribute(settings: &Settings, name: &'static str) -> String {
        settings.resource.get(&name.into()).map(|value| value.to_string()).unwrap_or_default()
    }

    #[test]
    fn nothing_is_exported_unless_a_collector_is_named() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_TRACES_EXPORTER", "otlp")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        let both = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
        assert!(read(&[&[ENDPOINT], both.as_slice()].concat()).unwrap().is_none());
        assert!(with(&both[..1]).traces.is_none() && with(&both[..1]).metrics.is_some());
        assert!(with(&both[1..]).traces.is_some() && with(&both[1..]).metrics.is_none());
        assert!(warned(&[("OTEL_TRACES_EXPORTER", "zipkin")]).contains("`zipkin` is not offered"));
    }

    #[test]
    fn a_signal_s_own_variable_wins_and_is_taken_as_it_is() {
        let settings = with(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.test/here"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2000"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ]);
        let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
        assert_eq!(traces.to.endpoint, "https://traces.test/here");
        assert_eq!(metrics.to.endpoint, "http://collector:4318/v1/metrics");
        assert_eq!((traces.to.timeout.as_secs(), metrics.to.timeout.as_secs()), (1, 2));
        assert_eq!((traces.waiting_max, metrics.every.as_millis()), (SPANS_WAITING_MAX, 500));
        let alone = read(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a.test/m")]).unwrap().unwrap();
        assert!(alone.traces.is_none() && alone.metrics.is_some());
    }

    #[test]
    fn what_cannot_be_spoken_with_is_refused_with_what_to_do() {
        for protocol in ["grpc", "http/json"] {
            let error = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]).unwrap_err();
            assert!(error.to_string().contains(protocol) && error.hint().contains("4318"), "{error}");
        }
        // Of a signal that is off nothing is asked.
        assert!(read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap().is_none());
        for wrong in ["collector:4318", "grpc://collector:4317", "http://", "http://name:s3cret@collector:4318"] {
            let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]).unwrap().unwrap().warnings[0].contains("4318")
        );
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let settings = with(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20s3cret, x-a = 1 ,just-a-s3cret")]);
        let headers = &settings.traces.as_ref().unwrap().to.headers;
        assert_eq!((headers["authorization"].as_bytes(), headers["x-a"].as_bytes()), (&b"Basic s3cret"[..], &b"1"[..]));
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    }

    #[test]
    fn samplers_are_the_standard_ones() {
        let sampler = |name, arg| {
            let settings = with(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]);
            format!("{:?}", settings.traces.unwrap().sampler)
        };
        assert_eq!(sampler("", ""), "ParentBased(AlwaysOn)");
        assert_eq!(sampler("always_off", ""), "AlwaysOff");
        assert_eq!(sampler("parentbased_traceidratio", "0.25"), "ParentBased(TraceIdRatioBased(0.25))");
        assert_eq!(sampler("traceidratio", "7"), "TraceIdRatioBased(1.0)");
        assert!(warned(&[("OTEL_TRACES_SAMPLER", "xray")]).contains("`xray` is not offered"));
        assert!(warned(&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")]).contains("no number from 1"));
    }

    #[test]
    fn a_node_says_what_it_is_unless_it_is_told() {
        let settings = with(&[]);
        assert_eq!(attribute(&settings, "service.name"), "sluice");
        assert_ne!(attribute(&settings, "service.instance.id"), attribute(&with(&[]), "service.instance.id"));
        let said =
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=x%2Cy,service.instance.id=1");
        assert_eq!(attribute(&with(&[said]), "service.name"), "a");
        assert_eq!(attribute(&with(&[said]), "deployment.environment.name"), "x,y");
        assert_eq!(attribute(&with(&[said]), "service.instance.id"), "1");
        assert_eq!(attribute(&with(&[said, ("OTEL_SERVICE_NAME", "b")]), "service.name"), "b");
    }
}
