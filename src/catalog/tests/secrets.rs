//! Secrets (`SEC-*`): copies are total, nothing unreleased goes live by an edit, drafts keep theirs.

use super::*;

const PUT: SecretTarget = SecretTarget::LatestDeployed;
const VERSIONS: SecretTarget = SecretTarget::LatestNotDeployed;

#[tokio::test]
async fn an_edit_is_a_total_copy_with_other_secrets() {
    let node = Node::new().await;
    let upload = Upload { tag: Some("v1"), ..Upload::default() }.alias("staging");
    let base = upload.secret("S", "1").secret("OLD", "x").text("T", "t").deploy(&node.catalog, "w").await.version;
    let made =
        node.catalog.edit_secrets(&worker("w"), edit(&[("S", "2"), ("N", "3")], &["OLD", "NEVER"]), PUT).await.unwrap();
    let (copy, deployment) = (made.version.unwrap(), made.deployment.unwrap());
    assert_eq!(secrets_of(&copy), pairs(&[("N", "3"), ("S", "2")]));
    assert_eq!((copy.number, copy.annotations.triggered_by), (2, Trigger::Secret));
    assert_eq!((copy.tag(), copy.annotations.alias.is_none()), ("v1", true));
    assert_eq!((&copy.module, copy.startup), (&base.module, base.startup));
    assert!(copy.config.bindings.iter().any(|binding| binding.name.as_str() == "T"));
    assert_eq!((deployment.split.stable(), deployment.triggered_by), (Some(copy.id), Trigger::Secret));
    // The alias stays with what was uploaded.
    assert_eq!(seen(&node.catalog, "w").alias("staging"), Some(base.id));
}

#[tokio::test]
async fn secret_put_is_refused_unless_the_latest_version_has_all_traffic() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let latest = Upload::default().secret("S", "1").only(&node.catalog, "w").await;
    async fn refused(catalog: &Arc<Catalog>, target: SecretTarget) -> Error {
        catalog.edit_secrets(&worker("w"), edit(&[("S", "2")], &[]), target).await.unwrap_err()
    }
    let error = refused(&node.catalog, PUT).await;
    assert!(matches!(error, Error::SecretEditBlocked { latest: id } if id == latest));
    assert!(error.to_string().starts_with("Secret edit failed. You attempted to modify a secret, but the latest"));
    let error = refused(&node.catalog, SecretTarget::LatestDeployedInBulk).await;
    assert!(matches!(error, Error::SettingsEditBlocked { .. }));
    // During a split as well (`SEC-3`).
    deploy(&node.catalog, "w", &[(first, 50.0), (latest, 50.0)]).await.unwrap();
    assert!(matches!(refused(&node.catalog, PUT).await, Error::SecretEditBlocked { .. }));
    deploy(&node.catalog, "w", &[(latest, 100.0)]).await.unwrap();
    node.catalog.edit_secrets(&worker("w"), edit(&[("S", "2")], &[]), PUT).await.unwrap();
    // A rollback brings the worker into that state too.
    deploy(&node.catalog, "w", &[(first, 100.0)]).await.unwrap_err();
    let forced = NewDeployment { force: Force::Yes, ..wish(&[(first, 100.0)]) };
    node.catalog.deploy(&worker("w"), forced).await.unwrap();
    assert!(matches!(refused(&node.catalog, PUT).await, Error::SecretEditBlocked { .. }));
}

#[tokio::test]
async fn versions_secret_copies_the_latest_upload_and_deploys_nothing() {
    let node = Node::new().await;
    let live = Upload::default().deploy(&node.catalog, "w").await.version.id;
    Upload { module: 7, ..Upload::default() }.only(&node.catalog, "w").await;
    let mut wanted = edit(&[("S", "1")], &[]);
    wanted.tag = Some("t2".into());
    let made = node.catalog.edit_secrets(&worker("w"), wanted, VERSIONS).await.unwrap();
    let copy = made.version.unwrap();
    assert_eq!((copy.module.digest, copy.tag()), (facts(7).digest, "t2"));
    assert!(made.deployment.is_none());
    assert_eq!(seen(&node.catalog, "w").active.as_ref().unwrap().split.stable(), Some(live));
}

#[tokio::test]
async fn secrets_not_mentioned_in_an_upload_stay() {
    let node = Node::new().await;
    Upload::default().secret("S", "1").deploy(&node.catalog, "w").await;
    let next = Upload::default().text("T", "t").deploy(&node.catalog, "w").await;
    assert_eq!(secrets_of(&next.version), pairs(&[("S", "1")]));
}

#[tokio::test]
async fn a_draft_keeps_its_secrets_for_its_first_version() {
    let node = Node::new().await;
    let unknown = node.catalog.edit_secrets(&worker("w"), edit(&[("S", "1")], &[]), PUT).await;
    assert!(matches!(unknown, Err(Error::WorkerUnknown { .. })));
    node.catalog.create_draft(&worker("w")).await.unwrap();
    let none = node.catalog.edit_secrets(&worker("w"), edit(&[("S", "1")], &[]), VERSIONS).await;
    assert!(matches!(none, Err(Error::NoVersions { .. })));
    let made = node.catalog.edit_secrets(&worker("w"), edit(&[("S", "1"), ("T", "2")], &[]), PUT).await.unwrap();
    assert!(made.version.is_none() && made.deployment.is_none());
    node.catalog.edit_secrets(&worker("w"), edit(&[], &["T"]), PUT).await.unwrap();

    let again = node.open_again().await;
    let names: Vec<String> = seen(&again, "w").draft_secrets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["S"]);
    let version = Upload::default().only(&again, "w").await;
    let view = seen(&again, "w");
    assert_eq!(secrets_of(view.version(version).unwrap()), pairs(&[("S", "1")]));
    assert!(view.draft_secrets.is_empty());
}

#[tokio::test]
async fn an_edit_that_would_do_nothing_or_is_wrong_is_refused() {
    let node = Node::new().await;
    Upload::default().text("T", "t").deploy(&node.catalog, "w").await;
    let unknown = node.catalog.edit_secrets(&worker("w"), edit(&[], &["S"]), PUT).await;
    assert!(matches!(unknown, Err(Error::SecretUnknown { name, .. }) if name == "S"));
    for wrong in [edit(&[], &["T"]), edit(&[("T", "x")], &[]), edit(&[("1x", "x")], &[])] {
        let refused = node.catalog.edit_secrets(&worker("w"), wrong, PUT).await;
        assert!(matches!(refused, Err(Error::Faults(faults)) if faults.len() == 1));
    }
    let names: Vec<String> = (0..101).map(|n| format!("S{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    assert!(matches!(node.catalog.edit_secrets(&worker("w"), edit(&many, &[]), PUT).await, Err(Error::Faults(_))));
    assert_eq!(seen(&node.catalog, "w").newest_first().len(), 1);
}

#[tokio::test]
async fn no_secret_is_readable_in_the_store_or_in_debug_output() {
    let node = Node::new().await;
    Upload::default().secret("S", "hunter2").deploy(&node.catalog, "w").await;
    node.catalog.create_draft(&worker("d")).await.unwrap();
    node.catalog.edit_secrets(&worker("d"), edit(&[("S", "hunter2")], &[]), PUT).await.unwrap();
    let everything = crate::store::Range::new(
        crate::store::Key::family(crate::store::Family::new(0)),
        crate::store::Key::family(crate::store::Family::new(0xFE)),
    );
    let entries = node.store.scan(everything, Order::Ascending, 1000).await.unwrap();
    assert!(entries.len() >= 4);
    for entry in entries {
        assert!(!String::from_utf8_lossy(&entry.value).contains("hunter2"), "{}", entry.key);
    }
    assert!(!format!("{:?} {:?}", node.catalog.view(), seen(&node.catalog, "d").draft_secrets).contains("hunter2"));
}

#[tokio::test]
async fn a_catalog_whose_key_is_gone_does_not_open() {
    let node = Node::new().await;
    Upload::default().secret("S", "1").deploy(&node.catalog, "w").await;
    let key = node.dir.path().join(KEY_FILE);
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let open = || Catalog::open(node.store.clone(), node.dir.path(), node.clock.clone());
    assert!(matches!(open().await, Err(Error::KeyMissing { .. })));
    std::fs::write(&key, [0; 32]).unwrap();
    assert!(matches!(open().await, Err(Error::Record { source: Damaged::Secret(_), .. })));
    std::fs::write(&key, kept).unwrap();
    assert_eq!(picture(&open().await.unwrap()), picture(&node.catalog));
}
