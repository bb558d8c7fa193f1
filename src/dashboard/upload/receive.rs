//! Reads the form with the two files. The module goes to a file as it comes; what is too large, too slow or cut off is said on a page,
//! which a browser only sees once it has sent all: so the rest is read and dropped first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use futures_util::{Stream, StreamExt as _};

use crate::control::{Form, Part};
use crate::dashboard::Dashboard;
use crate::dashboard::call::Refused;
use crate::dashboard::guard::FORM_SECRET;
use crate::dashboard::session::Session;
use crate::dashboard::upload::dropped::{Configuration, Dropped, Module};
use crate::domain::limits::CONFIGURATION_BYTES_MAX;
use crate::project::syntax::Language;

/// More than any field beside the files has.
const FIELD_BYTES_MAX: u64 = 16 * 1024;
/// How long, and how much, the rest of a form is read that was refused.
const REST_WALL_MAX: Duration = Duration::from_secs(60);
const REST_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Why nothing was received.
pub(super) enum Failed {
    /// It is not a form of this session.
    Foreign,
    Refused(Refused),
}

/// The files of a form. Those that it kept from the time before are there too, but for such as came anew.
pub(super) async fn receive(dashboard: &Dashboard, session: &Session, request: Request) -> Result<Dropped, Failed> {
    let (head, body) = request.into_parts();
    let rest = Rest(Arc::new(Mutex::new(body.into_data_stream())));
    let body = Body::from_stream(rest.clone());
    let received = match Form::open(&head.headers, body) {
        Ok(form) => read(dashboard, session, form).await,
        Err(fault) => Err(Failed::Refused(fault.into())),
    };
    if received.is_err() {
        rest.drop_all().await;
    }
    received
}

async fn read(dashboard: &Dashboard, session: &Session, mut form: Form) -> Result<Dropped, Failed> {
    let (mut is_ours, mut dropped, mut kept) = (false, Dropped::default(), String::new());
    while let Some(part) = form.next().await.map_err(refused)? {
        match part.name().unwrap_or_default() {
            FORM_SECRET => is_ours = session.made(&text(part).await?),
            // The form has the files last, so that it is known by now whose they are.
            _ if !is_ours => return Err(Failed::Foreign),
            "kept" => kept = text(part).await?,
            "configuration" => dropped.configuration = configuration(part).await?,
            "module" => dropped.module = module(dashboard, part).await?,
            _ => drop(text(part).await?),
        }
    }
    if !is_ours {
        return Err(Failed::Foreign);
    }
    if let Some(before) = dashboard.uploads.get(session, &kept) {
        dropped.configuration = dropped.configuration.or(before.configuration);
        dropped.module = dropped.module.or(before.module);
    }
    if dropped.configuration.is_none() && dropped.module.is_none() {
        return Err(by_us("No file was chosen."));
    }
    Ok(dropped)
}

async fn text(part: Part) -> Result<String, Failed> {
    let bytes = part.all("a field of the form", FIELD_BYTES_MAX).await.map_err(refused)?;
    String::from_utf8(bytes).map_err(|_| by_us("A field of the form is not text."))
}

/// What a browser calls a file, without the folders that some put before it; none where no file was chosen.
fn file_name(part: &Part) -> Option<String> {
    let name = part.file_name()?.rsplit(['/', '\\']).next()?;
    (!name.is_empty()).then(|| name.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect())
}

async fn configuration(part: Part) -> Result<Option<Configuration>, Failed> {
    let Some(file_name) = file_name(&part) else { return Ok(None) };
    let language = Language::of_file(&file_name).ok_or_else(|| {
        by_us(&format!("`{file_name}` is no configuration: a wrangler.toml, wrangler.json or wrangler.jsonc is."))
    })?;
    let bytes = part.all("the configuration", CONFIGURATION_BYTES_MAX).await.map_err(refused)?;
    let text = String::from_utf8(bytes).map_err(|_| by_us(&format!("`{file_name}` is not text.")))?;
    Ok(Some(Configuration { file_name, language, text: text.into() }))
}

async fn module(dashboard: &Dashboard, part: Part) -> Result<Option<Module>, Failed> {
    let Some(file_name) = file_name(&part) else { return Ok(None) };
    let temp_dir = dashboard.api.catalog.modules().temp_dir();
    let file = part.store(Vec::new(), &file_name, temp_dir).await.map_err(refused)?;
    Ok(Some(Module { file_name, file: Arc::new(file) }))
}

fn by_us(sentence: &str) -> Failed {
    Failed::Refused(Refused::by_us(sentence))
}

fn refused(fault: crate::control::Fault) -> Failed {
    Failed::Refused(fault.into())
}

/// The body of a request, of which whoever reads it may leave a rest.
#[derive(Clone)]
struct Rest(Arc<Mutex<BodyDataStream>>);

impl Stream for Rest {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_next(cx)
    }
}

impl Rest {
    async fn drop_all(mut self) {
        let dropping = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = self.next().await {
                bytes += chunk.len();
                if bytes > REST_BYTES_MAX {
                    return;
                }
            }
        };
        // Whether it was all, or too much for us: the page is sent either way.
        let _ = tokio::time::timeout(REST_WALL_MAX, dropping).await;
    }
}
