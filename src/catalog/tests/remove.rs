//! Deleting (`VER-11`, `DEP-9`).

use super::*;
use crate::domain::id::DeploymentId;

#[tokio::test]
async fn a_version_goes_unless_it_is_active_or_the_latest() {
    let node = Node::new().await;
    let first = Upload::default().alias("s").deploy(&node.catalog, "w").await.version.id;
    let second = Upload::default().alias("s").deploy(&node.catalog, "w").await.version.id;
    let third = Upload::default().only(&node.catalog, "w").await;
    deploy(&node.catalog, "w", &[(second, 100.0), (first, 0.0)]).await.unwrap();
    let delete = |id| {
        let catalog = Arc::clone(&node.catalog);
        async move { catalog.delete_version(&worker("w"), id).await }
    };
    assert!(matches!(delete(first).await, Err(Error::ActiveDeployment)), "at 0 % too");
    assert!(matches!(delete(third).await, Err(Error::LatestVersion)));
    assert!(matches!(delete(VersionId::from_random([1; 16])).await, Err(Error::VersionUnknown { .. })));
    deploy(&node.catalog, "w", &[(first, 100.0)]).await.unwrap();
    delete(second).await.unwrap();

    let view = seen(&node.catalog, "w");
    assert!(view.version(second).is_none());
    assert_eq!(view.alias("s"), Some(first), "the newest that is left");
    // Deployments stay as they were; those that name what is gone are not for lists.
    assert_eq!((view.deployments.len(), view.whole_deployments().count()), (4, 2));
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));
    assert_eq!(Upload::default().deploy(&node.catalog, "w").await.version.number, 4, "numbers are not given again");
}

#[tokio::test]
async fn a_deployment_goes_unless_it_is_active() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.deployment.unwrap().id;
    let active = Upload::default().deploy(&node.catalog, "w").await.deployment.unwrap().id;
    let name = worker("w");
    assert!(matches!(node.catalog.delete_deployment(&name, active).await, Err(Error::ActiveDeployment)));
    let unknown = node.catalog.delete_deployment(&name, DeploymentId::from_random([1; 16])).await;
    assert!(matches!(unknown, Err(Error::DeploymentUnknown { .. })));
    node.catalog.delete_deployment(&name, first).await.unwrap();
    assert_eq!(seen(&node.catalog, "w").deployments.iter().map(|known| known.id).collect::<Vec<_>>(), [active]);
    Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));
}

#[tokio::test]
async fn a_worker_that_others_bind_goes_only_by_force() {
    let node = Node::new().await;
    Upload::default().service("SELF", "api").deploy(&node.catalog, "api").await;
    let binding = Upload::default().service("API", "api").deploy(&node.catalog, "web").await.version.id;
    Upload::default().service("API", "api").deploy(&node.catalog, "admin").await;
    let refused = node.catalog.delete_worker(&worker("api"), Force::No).await.unwrap_err();
    assert_eq!(refused.to_string(), "worker `api` is bound by admin, web; force the deletion if that is meant");
    // Only what is live counts.
    Upload::default().deploy(&node.catalog, "web").await;
    assert!(seen(&node.catalog, "web").version(binding).is_some());
    let refused = node.catalog.delete_worker(&worker("api"), Force::No).await;
    assert!(matches!(refused, Err(Error::WorkerInUse { by, .. }) if by == [worker("admin")]));
    node.catalog.delete_worker(&worker("api"), Force::Yes).await.unwrap();
    assert!(node.catalog.view().worker(&worker("api")).is_none());
    let gone = node.catalog.delete_worker(&worker("api"), Force::Yes).await;
    assert!(matches!(gone, Err(Error::WorkerUnknown { .. })));
}

#[tokio::test]
async fn a_worker_that_comes_back_is_another_one() {
    let node = Node::new().await;
    let beside = node.open_again().await;
    for _ in 0..3 {
        Upload::default().secret("S", "old").deploy(&node.catalog, "w").await;
    }
    beside.refresh().await.unwrap();
    let tag = seen(&beside, "w").tag.clone();
    node.catalog.delete_worker(&worker("w"), Force::No).await.unwrap();
    let made = Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!(made.version.number, 1);
    assert!(secrets_of(&made.version).is_empty());
    beside.refresh().await.unwrap();
    assert_ne!(seen(&beside, "w").tag, tag);
    assert_eq!(picture(&beside), picture(&node.catalog));
    node.catalog.delete_worker(&worker("w"), Force::No).await.unwrap();
    beside.refresh().await.unwrap();
    assert_eq!(beside.view().workers().len(), 0);
    // Nothing is left behind in the store.
    let all = crate::store::Range::under(&crate::store::Key::family(crate::store::Family::new(0x11)));
    assert!(node.store.scan(all, Order::Ascending, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn modules_that_nothing_names_go_at_the_next_start() {
    let node = Node::new().await;
    for n in [1, 2] {
        let temp = node.catalog.modules().temp_dir().join("upload");
        std::fs::write(&temp, [n]).unwrap();
        node.catalog.modules().adopt(&temp, facts(n).digest).await.unwrap();
        Upload { module: n, ..Upload::default() }.deploy(&node.catalog, &format!("w{n}")).await;
    }
    node.catalog.delete_worker(&worker("w1"), Force::No).await.unwrap();
    let again = node.open_again().await;
    assert!(!again.modules().path(facts(1).digest).exists());
    assert_eq!(again.modules().read(facts(2).digest).await.unwrap(), [2]);
}
