//! Which worker or version a host is for (`URL-*`, `RTE-*`), and who may claim which route.

use super::*;
use crate::domain::route::Hostname;

fn route(pattern: &str) -> Route {
    Route { pattern: pattern.parse().unwrap(), zone_name: None, zone_id: None }
}

fn hostname(name: &str) -> Hostname {
    name.parse().unwrap()
}

/// Where a URL without scheme goes.
fn ask(catalog: &Catalog, url: &str) -> String {
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    match catalog.view().route_for(host, if path.is_empty() { "/" } else { path }) {
        Routed::Worker(worker) => worker.name.to_string(),
        Routed::Preview { worker, version } => {
            format!("{}@{}", worker.name, worker.version(version).unwrap().number)
        }
        Routed::Disabled => "disabled".into(),
        Routed::None => "none".into(),
    }
}

#[tokio::test]
async fn every_worker_version_and_alias_has_a_host() {
    let node = Node::new().await;
    let first = Upload::default().alias("staging").deploy(&node.catalog, "my-app").await.version.id;
    let second = Upload::default().only(&node.catalog, "my-app").await;
    for (url, goes) in [
        ("my-app.localhost".into(), "my-app"),
        ("MY-App.LocalHost.:8787".into(), "my-app"),
        (format!("{}-my-app.localhost", first.short()), "my-app@1"),
        (format!("{}-my-app.localhost", second.short()), "my-app@2"),
        (format!("{}-MY-app.localhost:80", second.short().to_uppercase()), "my-app@2"),
        ("staging-my-app.localhost".into(), "my-app@1"),
        ("nothing-my-app.localhost".into(), "none"),
        ("00000000-my-app.localhost".into(), "none"),
        ("+0000000-my-app.localhost".into(), "none"),
        ("-my-app.localhost".into(), "none"),
        ("app.localhost".into(), "none"),
        ("x.my-app.localhost".into(), "none"),
        ("my-app".into(), "none"),
        ("localhost".into(), "none"),
        (".localhost".into(), "none"),
        ("127.0.0.1:8787".into(), "none"),
        ("[::1]:8787".into(), "none"),
        (String::new(), "none"),
    ] {
        assert_eq!(ask(&node.catalog, &url), goes, "{url}");
    }
}

#[tokio::test]
async fn an_exact_name_wins_and_every_dash_is_tried() {
    let node = Node::new().await;
    Upload::default().alias("pr-b").deploy(&node.catalog, "app").await;
    Upload::default().alias("pr").deploy(&node.catalog, "b-app").await;
    Upload::default().alias("pr-1").only(&node.catalog, "b-app").await;
    // Both `pr-b` of `app` and `pr` of `b-app`: the longest name of a worker.
    assert_eq!(ask(&node.catalog, "pr-b-app.localhost"), "b-app@1");
    assert_eq!(ask(&node.catalog, "pr-1-b-app.localhost"), "b-app@2");
    Upload::default().deploy(&node.catalog, "pr-b-app").await;
    assert_eq!(ask(&node.catalog, "pr-b-app.localhost"), "pr-b-app");
}

#[tokio::test]
async fn hosts_can_be_switched_off() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let preview = format!("{}-w.localhost", first.short());
    let set = |enabled, previews_enabled| {
        let catalog = Arc::clone(&node.catalog);
        async move { catalog.set_subdomain(&worker("w"), Subdomain { enabled, previews_enabled }).await.unwrap() }
    };
    set(false, None).await;
    assert_eq!((ask(&node.catalog, "w.localhost"), ask(&node.catalog, &preview)), ("none".into(), "none".into()));
    set(false, Some(true)).await;
    assert_eq!((ask(&node.catalog, "w.localhost"), ask(&node.catalog, &preview)), ("none".into(), "w@1".into()));
    set(true, Some(false)).await;
    assert_eq!((ask(&node.catalog, "w.localhost"), ask(&node.catalog, &preview)), ("w".into(), "none".into()));
    // A new version changes nothing of it (`NV-3`).
    Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!(ask(&node.catalog, &preview), "none");
}

#[tokio::test]
async fn routes_and_domains_lead_to_their_workers() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        Upload::default().deploy(&node.catalog, name).await;
    }
    node.catalog.set_routes(&worker("a"), vec![route("example.com/*"), route("*/all/*")]).await.unwrap();
    node.catalog.set_routes(&worker("b"), vec![route("example.com/api/*")]).await.unwrap();
    node.catalog.set_domains(&worker("b"), vec![hostname("shop.test")]).await.unwrap();
    node.catalog.set_disabled_routes(vec!["example.com/off/*".parse().unwrap()]).await.unwrap();
    let again = node.open_again().await;
    for catalog in [&node.catalog, &again] {
        for (url, goes) in [
            ("example.com/", "a"),
            ("Example.com:443/api/x?y", "b"),
            ("example.com/off/x", "disabled"),
            ("shop.test/any", "b"),
            ("any.test/all/x", "a"),
            // No pattern hides a worker's own host.
            ("b.localhost/all/x", "b"),
            ("other.test/", "none"),
        ] {
            assert_eq!(ask(catalog, url), goes, "{url}");
        }
    }
    node.catalog.set_disabled_routes(vec![]).await.unwrap();
    assert_eq!(ask(&node.catalog, "example.com/off/x"), "a");
}

#[tokio::test]
async fn a_route_or_a_domain_has_one_owner() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        Upload::default().deploy(&node.catalog, name).await;
    }
    node.catalog.set_routes(&worker("a"), vec![route("x.test/*"), route("X.test/*")]).await.unwrap();
    assert_eq!(seen(&node.catalog, "a").triggers.routes.len(), 1);
    let taken = node.catalog.set_routes(&worker("b"), vec![route("y.test/*"), route("X.test/*")]).await;
    assert!(matches!(taken, Err(Error::RouteTaken { owner: Some(owner), .. }) if owner == worker("a")));
    assert_eq!(ask(&node.catalog, "y.test/"), "none", "nothing changed");
    let taken = node.catalog.set_disabled_routes(vec!["x.test/*".parse().unwrap()]).await;
    assert!(matches!(taken, Err(Error::RouteTaken { owner: Some(_), .. })));
    node.catalog.set_disabled_routes(vec!["z.test/*".parse().unwrap()]).await.unwrap();
    let taken = node.catalog.set_routes(&worker("b"), vec![route("z.test/*")]).await;
    assert!(matches!(taken, Err(Error::RouteTaken { owner: None, .. })));

    node.catalog.set_domains(&worker("a"), vec![hostname("d.test")]).await.unwrap();
    let taken = node.catalog.set_domains(&worker("b"), vec![hostname("D.test")]).await;
    assert!(matches!(taken, Err(Error::DomainTaken { owner, .. }) if owner == worker("a")));
    // What is given up, and what goes with its worker, is free.
    node.catalog.set_domains(&worker("a"), vec![]).await.unwrap();
    node.catalog.set_domains(&worker("b"), vec![hostname("d.test")]).await.unwrap();
    node.catalog.delete_worker(&worker("a"), Force::No).await.unwrap();
    node.catalog.set_routes(&worker("b"), vec![route("x.test/*")]).await.unwrap();
    assert_eq!(ask(&node.catalog, "x.test/"), "b");

    let many = (0..1001).map(|n| route(&format!("r{n}.test/*"))).collect();
    assert!(matches!(node.catalog.set_routes(&worker("b"), many).await, Err(Error::TooManyRoutes { count: 1001 })));
}

#[tokio::test]
async fn settings_are_kept_as_they_were_given() {
    let node = Node::new().await;
    Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!(seen(&node.catalog, "w").settings, serde_json::Value::Null);
    let settings = serde_json::json!({"tags": ["x"], "observability": {"enabled": true, "head_sampling_rate": 0.1}});
    node.catalog.set_settings(&worker("w"), settings.clone()).await.unwrap();
    Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!(seen(&node.open_again().await, "w").settings, settings);
    let large = serde_json::json!("x".repeat(SETTINGS_BYTES_MAX));
    assert!(matches!(node.catalog.set_settings(&worker("w"), large).await, Err(Error::SettingsTooLarge { .. })));
}
