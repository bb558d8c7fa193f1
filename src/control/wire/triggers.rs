//! What leads to a worker, on the wire: routes, custom domains and the switches of its own host names. They are made from what a
//! project's file says of them.

use serde::{Deserialize, Serialize};

use crate::project::triggers::{Pattern, Routes, Triggers};

/// The body and the answer of `POST …/subdomain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subdomain {
    pub enabled: bool,
    /// Absent: the same as `enabled` (`URL-5`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews_enabled: Option<bool>,
}

/// One entry of the body of `PUT …/routes`, which replaces all of a worker's routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
}

/// The body of `PUT …/domains/records`, which replaces all of a worker's custom domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRecords {
    #[serde(default)]
    pub override_scope: bool,
    #[serde(default)]
    pub override_existing_origin: bool,
    #[serde(default)]
    pub override_existing_dns_record: bool,
    pub origins: Vec<Domain>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub hostname: String,
}

impl From<&Triggers> for Subdomain {
    fn from(triggers: &Triggers) -> Self {
        Self { enabled: triggers.is_on_own_host(), previews_enabled: triggers.preview_urls }
    }
}

impl From<&Pattern> for Route {
    fn from(Pattern { pattern, zone_name, zone_id }: &Pattern) -> Self {
        Self { pattern: pattern.clone(), zone_name: zone_name.clone(), zone_id: zone_id.clone() }
    }
}

impl From<&Routes> for DomainRecords {
    fn from(routes: &Routes) -> Self {
        Self {
            override_scope: true,
            override_existing_origin: true,
            override_existing_dns_record: true,
            origins: routes.domains.iter().map(|hostname| Domain { hostname: hostname.clone() }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switches_follow_the_routes() {
        let sent = |triggers: &Triggers| serde_json::to_string(&Subdomain::from(triggers)).unwrap();
        let mut triggers = Triggers { preview_urls: Some(false), ..Triggers::default() };
        assert_eq!(sent(&triggers), r#"{"enabled":true,"previews_enabled":false}"#);
        triggers = Triggers {
            routes: Some(Routes { patterns: Vec::new(), domains: vec!["www.shop.test".to_owned()] }),
            ..Triggers::default()
        };
        assert_eq!(sent(&triggers), r#"{"enabled":false}"#);
        assert_eq!(DomainRecords::from(&triggers.routes.unwrap()).origins[0].hostname, "www.shop.test");
    }
}
