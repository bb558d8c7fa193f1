//! What a form asks for when it deploys: versions with shares as they were typed, a message, and when objects take it. It is read here and
//! turned into the API's words; the API decides.

use http::{Method, StatusCode};
use maud::{Markup, html};

use crate::catalog::{Force, WorkerView};
use crate::control::wire::{Annotations, CodeUpdateMode, CodeUpdateStrategy, Deployment, DeploymentRequest, Share};
use crate::dashboard::Dashboard;
use crate::dashboard::call::Refused;
use crate::dashboard::guard::Fields;
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::VersionId;
use crate::domain::split::Split;

/// Seconds that the form proposes for objects to wait.
const DELAY_PROPOSED_S: u32 = 300;

/// A deployment as a form describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Versions with their shares in percent, as typed. One without a share stays out of the deployment.
    pub rows: Vec<(VersionId, String)>,
    pub message: String,
    pub update: Update,
    /// Whether the old values of secrets may become live again.
    pub force: Force,
    /// The deployment that was active when the effect was shown; empty if there was none.
    pub seen: String,
}

/// When running objects take it, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    Immediate,
    /// After this many seconds at the latest.
    Deferred(String),
}

/// Whether a call only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Dry,
    Real,
}

impl Wish {
    /// All that is live now, as it is.
    #[must_use]
    pub fn present(worker: &WorkerView) -> Self {
        let split = worker.active.as_ref().map(|active| &active.split);
        Self { rows: split.map(rows).unwrap_or_default(), ..Self::empty(worker) }
    }

    /// The whole traffic to one version; those that are live now are shown and stay out.
    #[must_use]
    pub fn all_to(worker: &WorkerView, version: VersionId) -> Self {
        let mut wish = Self::present(worker);
        wish.rows.iter_mut().for_each(|(_, share)| share.clear());
        wish.rows.retain(|(id, _)| *id != version);
        wish.rows.insert(0, (version, "100".to_owned()));
        wish
    }

    /// The same split as one before.
    #[must_use]
    pub fn again(worker: &WorkerView, split: &Split) -> Self {
        Self { rows: rows(split), ..Self::empty(worker) }
    }

    fn empty(worker: &WorkerView) -> Self {
        let active = worker.active.as_ref();
        let update = match active.map(|active| active.code_update) {
            Some(CodeUpdate::Deferred { max_delay_s }) => Update::Deferred(max_delay_s.to_string()),
            _ => Update::Immediate,
        };
        let seen = active.map(|active| active.id.to_string()).unwrap_or_default();
        Self { rows: Vec::new(), message: String::new(), update, force: Force::No, seen }
    }

    /// What a form says. A version that is named twice counts once, as does one that is no id at all not.
    #[must_use]
    pub fn of(fields: &Fields) -> Self {
        let named = fields.all("version").zip(fields.all("share"));
        let mut rows: Vec<(VersionId, String)> = Vec::new();
        for (version, share) in named {
            if let Ok(version) = version.parse()
                && !rows.iter().any(|(known, _)| *known == version)
            {
                rows.push((version, share.trim().to_owned()));
            }
        }
        let update = match fields.get("update") {
            "deferred" => Update::Deferred(fields.get("delay").trim().to_owned()),
            _ => Update::Immediate,
        };
        Self {
            rows,
            message: fields.get("message").to_owned(),
            update,
            force: if fields.get("force") == "on" { Force::Yes } else { Force::No },
            seen: fields.get("seen").to_owned(),
        }
    }

    /// Adds a version whose share is still to be typed.
    pub fn add(&mut self, version: VersionId) {
        if !self.rows.iter().any(|(known, _)| *known == version) {
            self.rows.push((version, "0".to_owned()));
        }
    }

    /// The versions that are to be in the deployment, and their percentages.
    ///
    /// # Errors
    /// A sentence about the first thing that is no number.
    pub fn entries(&self) -> Result<Vec<(VersionId, f64)>, String> {
        let typed = self.rows.iter().filter(|(_, share)| !share.is_empty());
        typed.map(|(version, share)| number(share).map(|share| (*version, share))).collect()
    }

    /// The split that is asked for.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn split(&self) -> Result<Split, String> {
        Split::from_percentages(&self.entries()?).map_err(|error| format!("It cannot be deployed so: {error}."))
    }

    /// Asks the API for it, or what it would do. It is refused if another deployment is active than the one that was seen.
    ///
    /// # Errors
    /// What the API said, or what it was not asked for.
    pub async fn ask(&self, dashboard: &Dashboard, worker: &WorkerView, run: Run) -> Result<Deployment, Refused> {
        let request = self.request().map_err(|sentence| Refused::by_us(&sentence))?;
        // The API has no way to say "if there is none": that is looked at here.
        if run == Run::Real && self.seen.is_empty() && worker.active.is_some() {
            let mut refused = Refused::by_us("another deployment was made meanwhile");
            refused.status = StatusCode::PRECONDITION_FAILED;
            return Err(refused);
        }
        let query: Vec<&str> =
            [(run == Run::Dry).then_some("dry_run=true"), (self.force == Force::Yes).then_some("force=true")]
                .into_iter()
                .flatten()
                .collect();
        let path = format!("/scripts/{}/deployments?{}", worker.name, query.join("&"));
        let seen = Some(self.seen.as_str()).filter(|seen| !seen.is_empty());
        let deployment = dashboard.call_if(Method::POST, &path, seen, Some(&request)).await?;
        deployment.ok_or_else(|| Refused::by_us("the node said nothing of the deployment"))
    }

    fn request(&self) -> Result<DeploymentRequest, String> {
        self.split()?;
        let share = |(id, percentage): (VersionId, f64)| Share { version_id: id.to_string(), percentage };
        let message = Some(self.message.clone()).filter(|message| !message.is_empty());
        Ok(DeploymentRequest {
            strategy: "percentage".to_owned(),
            versions: self.entries()?.into_iter().map(share).collect(),
            annotations: Annotations { message, ..Annotations::default() },
            code_update_strategy: Some(self.strategy()?),
        })
    }

    fn strategy(&self) -> Result<CodeUpdateStrategy, String> {
        Ok(match &self.update {
            Update::Immediate => CodeUpdate::Immediate.into(),
            Update::Deferred(delay) => {
                let max_delay = number(delay).map_err(|error| format!("The delay of objects: {error}"))?;
                // As typed: whether it is a delay, the API says.
                CodeUpdateStrategy { mode: CodeUpdateMode::Deferred, max_delay: Some(max_delay) }
            }
        })
    }

    /// The seconds that a form shows as the delay.
    #[must_use]
    pub fn delay(&self) -> String {
        match &self.update {
            Update::Deferred(delay) => delay.clone(),
            Update::Immediate => DELAY_PROPOSED_S.to_string(),
        }
    }

    /// The fields that carry it unseen, without its message and without what was seen.
    #[must_use]
    pub fn hidden(&self) -> Markup {
        html! {
            @for (version, share) in &self.rows {
                input type="hidden" name="version" value=(version);
                input type="hidden" name="share" value=(share);
            }
            @if let Update::Deferred(delay) = &self.update {
                input type="hidden" name="update" value="deferred";
                input type="hidden" name="delay" value=(delay);
            }
        }
    }
}

fn rows(split: &Split) -> Vec<(VersionId, String)> {
    split.entries().iter().map(|(id, share)| (*id, share.percent().to_string())).collect()
}

/// A number as people type it, with a point or a comma.
fn number(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().replace(',', ".").parse::<f64>();
    number.ok().filter(|number| number.is_finite()).ok_or_else(|| format!("`{text}` is no number."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn wish(shares: &[&str]) -> Wish {
        let rows = (1..).zip(shares).map(|(n, share)| (id(n), (*share).to_owned())).collect();
        let (message, seen) = (String::new(), String::new());
        Wish { rows, message, update: Update::Immediate, force: Force::No, seen }
    }

    #[test]
    fn shares_are_read_as_they_are_typed() {
        let check = |shares: &[&str]| wish(shares).split().map(|split| rows(&split));
        let row = |n, share: &str| (id(n), share.to_owned());
        assert_eq!(check(&["20", "80"]), Ok(vec![row(1, "20"), row(2, "80")]));
        assert_eq!(check(&["33,333", "66.667 %"]), Ok(vec![row(1, "33.333"), row(2, "66.667")]));
        // Nothing is out of the deployment; zero is in it, without traffic.
        assert_eq!(check(&["", "100", "0"]), Ok(vec![row(2, "100"), row(3, "0")]));
        for (wrong, part) in [
            (&["20", "79"][..], "sum to 99 %"),
            (&["20", "eighty"], "`eighty` is no number"),
            (&["NaN", "100"], "`NaN` is no number"),
            (&["-20", "120"], "expected a number from 0 to 100"),
            (&["", ""], "at least 1 version"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_delay_is_a_number_of_seconds() {
        let strategy = |delay: &str| Wish { update: Update::Deferred(delay.to_owned()), ..wish(&["100"]) }.strategy();
        assert_eq!(strategy("90").unwrap().max_delay, Some(90.0));
        assert!(strategy("soon").unwrap_err().contains("`soon` is no number"));
        assert_eq!(wish(&["100"]).strategy().unwrap().mode, CodeUpdateMode::Immediate);
    }

    #[test]
    fn a_version_is_added_once() {
        let mut wish = wish(&["100"]);
        wish.add(id(2));
        wish.add(id(1));
        wish.add(id(2));
        assert_eq!(wish.rows, [(id(1), "100".to_owned()), (id(2), "0".to_owned())]);
    }
}
