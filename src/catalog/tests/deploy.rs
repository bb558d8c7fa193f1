//! Deployments and rollbacks (`DEP-*`, `RBK-*`, E11).

use super::*;
use crate::domain::split;

/// A worker with `n` versions, of which the first is deployed.
async fn versions(node: &Node, n: usize) -> Vec<VersionId> {
    let mut ids = vec![Upload::default().deploy(&node.catalog, "w").await.version.id];
    for _ in 1..n {
        ids.push(Upload::default().only(&node.catalog, "w").await);
    }
    ids
}

#[tokio::test]
async fn one_to_twenty_versions_share_the_traffic() {
    let node = Node::new().await;
    let ids = versions(&node, 21).await;
    let even: Vec<_> = ids[..20].iter().map(|id| (*id, 5.0)).collect();
    let deployed = deploy(&node.catalog, "w", &even).await.unwrap();
    assert_eq!(deployed.moved_slots, 95_000);
    let listed: Vec<_> = seen(&node.catalog, "w").active.as_ref().unwrap().split.entries().to_vec();
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[..20], "DEP-8: the order is kept");

    let mut many = even.clone();
    many.push((ids[20], 0.0));
    let check = |entries: Vec<(VersionId, f64)>| deploy_owned(&node, entries);
    assert!(matches!(check(many).await, Err(Error::Split(split::Error::TooMany(21)))));
    assert!(matches!(check(vec![]).await, Err(Error::Split(split::Error::Empty))));
    assert!(matches!(check(vec![(ids[0], 50.0)]).await, Err(Error::Split(split::Error::Sum(_)))));
    let foreign = VersionId::from_random([9; 16]);
    let unknown = check(vec![(foreign, 100.0)]).await;
    assert!(matches!(unknown, Err(Error::VersionUnknown { version, .. }) if version == foreign));
    let nobody = node.catalog.deploy(&worker("x"), wish(&[(ids[0], 100.0)])).await;
    assert!(matches!(nobody, Err(Error::WorkerUnknown { .. })));
}

async fn deploy_owned(node: &Node, entries: Vec<(VersionId, f64)>) -> Result<Deployed, Error> {
    deploy(&node.catalog, "w", &entries).await
}

#[tokio::test]
async fn the_allotment_starts_from_the_one_before() {
    let node = Node::new().await;
    let ids = versions(&node, 2).await;
    let ten = deploy(&node.catalog, "w", &[(ids[1], 10.0), (ids[0], 90.0)]).await.unwrap();
    let thirty = deploy(&node.catalog, "w", &[(ids[0], 70.0), (ids[1], 30.0)]).await.unwrap();
    assert_eq!((ten.moved_slots, thirty.moved_slots), (10_000, 20_000));
    let same = deploy(&node.catalog, "w", &[(ids[1], 30.0), (ids[0], 70.0)]).await.unwrap();
    assert_eq!(same.moved_slots, 0);
    assert_eq!(seen(&node.catalog, "w").deployments.len(), 4, "each call is a new deployment");
}

#[tokio::test]
async fn a_rollback_is_a_deployment_of_an_older_version() {
    let node = Node::new().await;
    let ids = versions(&node, 3).await;
    let up = deploy(&node.catalog, "w", &[(ids[2], 100.0)]).await.unwrap();
    assert_eq!(up.deployment.triggered_by, Trigger::Deployment);
    deploy(&node.catalog, "w", &[(ids[2], 50.0), (ids[1], 50.0)]).await.unwrap();
    // `RBK-2`: from a split, both give way. No version is made (`RBK-1`).
    let back = deploy(&node.catalog, "w", &[(ids[0], 100.0)]).await.unwrap();
    assert_eq!(back.deployment.triggered_by, Trigger::Rollback);
    let view = seen(&node.catalog, "w");
    assert_eq!(view.active.as_ref().unwrap().split.stable(), Some(ids[0]));
    assert_eq!(view.newest_first().len(), 3);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let node = Node::new().await;
    let ids = versions(&node, 2).await;
    let before = picture(&node.catalog);
    let dry = NewDeployment { mode: ApplyMode::DryRun, ..wish(&[(ids[1], 25.0), (ids[0], 75.0)]) };
    let deployed = node.catalog.deploy(&worker("w"), dry.clone()).await.unwrap();
    assert_eq!(deployed.moved_slots, 25_000);
    assert_eq!(picture(&node.catalog), before);
    let refused = NewDeployment { entries: vec![(VersionId::from_random([1; 16]), 100.0)], ..dry };
    assert!(node.catalog.deploy(&worker("w"), refused).await.is_err());
}

#[tokio::test]
async fn if_match_names_the_deployment_that_is_active() {
    let node = Node::new().await;
    let ids = versions(&node, 2).await;
    let first = seen(&node.catalog, "w").active.as_ref().unwrap().id;
    let matching = |id| NewDeployment { if_match: Some(id), ..wish(&[(ids[1], 100.0)]) };
    let second = node.catalog.deploy(&worker("w"), matching(first)).await.unwrap().deployment.id;
    let late = node.catalog.deploy(&worker("w"), matching(first)).await;
    assert!(matches!(late, Err(Error::NotActive { active: Some(active), .. }) if active == second));
}

/// `DEP-10`, as ARCHITECTURE 4.9 words it.
#[tokio::test]
async fn older_secrets_come_back_only_by_force() {
    let node = Node::new().await;
    let v1 = Upload::default().secret("A", "1").secret("B", "1").secret("C", "1").deploy(&node.catalog, "w").await;
    let v2 = Upload::default().secret("B", "2").secret("A", "2").deploy(&node.catalog, "w").await;
    let (v1, v2) = (v1.version.id, v2.version.id);

    let refused = deploy(&node.catalog, "w", &[(v1, 100.0)]).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("The following secrets have changed: A, B"), "{text}");
    assert!(text.ends_with("A, B"), "clients read to the end: {text}");
    assert!(deploy(&node.catalog, "w", &[(v2, 90.0), (v1, 10.0)]).await.is_err(), "a share of it is refused as well");
    let forced = NewDeployment { force: Force::Yes, ..wish(&[(v1, 100.0)]) };
    node.catalog.deploy(&worker("w"), forced).await.unwrap();

    // Forward is not back, and what differs in no secret may come back.
    deploy(&node.catalog, "w", &[(v2, 100.0)]).await.unwrap();
    let v3 = Upload::default().text("T", "x").deploy(&node.catalog, "w").await.version.id;
    deploy(&node.catalog, "w", &[(v2, 100.0)]).await.unwrap();

    // What is live, at 0 % too, may have any share.
    let forced = NewDeployment { force: Force::Yes, ..wish(&[(v3, 100.0), (v1, 0.0)]) };
    node.catalog.deploy(&worker("w"), forced).await.unwrap();
    deploy(&node.catalog, "w", &[(v3, 10.0), (v1, 90.0)]).await.unwrap();
    deploy(&node.catalog, "w", &[(v1, 100.0)]).await.unwrap();
}

#[tokio::test]
async fn a_view_keeps_the_newest_hundred_deployments() {
    let node = Node::new().await;
    let ids = versions(&node, 2).await;
    for n in 0..105 {
        deploy(&node.catalog, "w", &[(ids[n % 2], 100.0)]).await.unwrap();
    }
    let (view, again) = (seen(&node.catalog, "w"), node.open_again().await);
    assert_eq!(view.deployments.len(), DEPLOYMENTS_KEPT);
    assert_eq!(picture(&again), picture(&node.catalog));
}
