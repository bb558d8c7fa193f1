//! Versions: numbering, first uploads, aliases, what an upload rests on (`VER-*`, `CRE-2`, `URL-2`, `URL-3`, `UPL-6`).

use super::*;

#[tokio::test]
async fn versions_count_from_one_for_each_worker() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        for number in 1..=3 {
            assert_eq!(Upload::default().deploy(&node.catalog, name).await.version.number, number);
        }
    }
    let numbers: Vec<u64> = seen(&node.catalog, "a").newest_first().map(|version| version.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
}

#[tokio::test]
async fn a_first_upload_has_to_be_deployed_unless_there_is_a_draft() {
    let node = Node::new().await;
    let refused = Upload::default().try_only(&node.catalog, "w").await;
    assert!(matches!(refused, Err(Error::WorkerUnknown { .. })));
    assert_eq!(node.catalog.view().workers().len(), 0);
    node.catalog.create_draft(&worker("w")).await.unwrap();
    node.catalog.create_draft(&worker("w")).await.unwrap();
    let draft = seen(&node.catalog, "w");
    assert!(draft.latest().is_none() && draft.active.is_none() && draft.tag.len() == 32);
    Upload::default().only(&node.catalog, "w").await;
    assert!(seen(&node.catalog, "w").active.is_none());
}

#[tokio::test]
async fn a_deploying_upload_is_live_when_it_is_acknowledged() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await;
    let second = Upload::default().deploy(&node.catalog, "w").await;
    assert_eq!((first.moved_slots, second.moved_slots), (0, 100_000));
    let now = seen(&node.catalog, "w");
    let active = now.active.as_ref().unwrap();
    assert_eq!(active.split.stable(), Some(second.version.id));
    assert_eq!(active.triggered_by, Trigger::Upload);
    assert_eq!(now.deployments.len(), 2);
    // E13: the same bytes twice are two versions. They share their facts, and here their configuration, in memory.
    assert_ne!(first.version.id, second.version.id);
    let (new, old) = (now.version(second.version.id).unwrap(), now.version(first.version.id).unwrap());
    assert!(Arc::ptr_eq(&new.module, &old.module) && Arc::ptr_eq(&new.config, &old.config));
}

#[tokio::test]
async fn times_ascend_with_numbers_though_the_clock_stands_still() {
    let node = Node::new().await;
    for _ in 0..3 {
        Upload::default().deploy(&node.catalog, "w").await;
    }
    let view = seen(&node.catalog, "w");
    let times: Vec<u64> = view.newest_first().map(|version| version.created_ms).collect();
    assert_eq!(times, [NOW_MS + 2, NOW_MS + 1, NOW_MS]);
    let times: Vec<u64> = view.deployments.iter().map(|deployment| deployment.created_ms).collect();
    assert_eq!(times, [NOW_MS + 2, NOW_MS + 1, NOW_MS]);
}

#[tokio::test]
async fn an_upload_that_rests_on_the_past_is_refused() {
    let node = Node::new().await;
    Upload::default().secret("S", "1").deploy(&node.catalog, "w").await;
    let late = Upload::default().new_version(&node.catalog, "w");
    let target = SecretTarget::LatestDeployed;
    node.catalog.edit_secrets(&worker("w"), edit(&[("S", "2")], &[]), target).await.unwrap();
    let refused = node.catalog.publish(&worker("w"), late.clone(), AndDeploy::No, CreateWorker::Refuse).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    // Resolved again it keeps the new value.
    let version = Upload::default().only(&node.catalog, "w").await;
    assert_eq!(secrets_of(seen(&node.catalog, "w").version(version).unwrap()), pairs(&[("S", "2")]));

    // The same for a draft, whose secrets have no version to be told by.
    node.catalog.create_draft(&worker("d")).await.unwrap();
    let late = Upload::default().new_version(&node.catalog, "d");
    node.catalog.edit_secrets(&worker("d"), edit(&[("S", "1")], &[]), target).await.unwrap();
    let refused = node.catalog.publish(&worker("d"), late, AndDeploy::No, CreateWorker::Refuse).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn tags_are_not_unique() {
    let node = Node::new().await;
    for _ in 0..2 {
        Upload { tag: Some("v1"), ..Upload::default() }.deploy(&node.catalog, "w").await;
    }
    assert!(seen(&node.catalog, "w").newest_first().all(|version| version.tag() == "v1"));
}

#[tokio::test]
async fn an_alias_is_of_the_newest_upload_that_has_it() {
    let node = Node::new().await;
    Upload::default().alias("staging").deploy(&node.catalog, "w").await;
    let second = Upload::default().alias("staging").only(&node.catalog, "w").await;
    let other = Upload::default().alias("pr-1").only(&node.catalog, "w").await;
    Upload::default().only(&node.catalog, "w").await;
    let view = seen(&node.catalog, "w");
    assert_eq!((view.alias("staging"), view.alias("pr-1"), view.alias("pr")), (Some(second), Some(other), None));
    assert_eq!(view.aliases().len(), 2);
}

#[tokio::test]
async fn an_alias_fits_a_label_and_no_other_worker() {
    let node = Node::new().await;
    Upload::default().deploy(&node.catalog, "staging-w").await;
    Upload::default().deploy(&node.catalog, "w").await;
    let taken = Upload::default().alias("staging").try_only(&node.catalog, "w").await;
    assert!(matches!(taken, Err(Error::AliasTaken { .. })));
    // With `-w` exactly 63 characters, then 64.
    let (fits, over) = (
        "a123456789b123456789c123456789d123456789e123456789f1234567890",
        "a123456789b123456789c123456789d123456789e123456789f12345678901",
    );
    Upload::default().alias(fits).only(&node.catalog, "w").await;
    let refused = Upload::default().alias(over).try_only(&node.catalog, "w").await;
    assert!(matches!(refused, Err(Error::AliasTooLong { .. })));
}

#[tokio::test]
async fn only_the_newest_hundred_versions_are_deployable() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let mut ids = vec![first];
    for _ in 1..101 {
        ids.push(Upload::default().only(&node.catalog, "w").await);
    }
    let view = seen(&node.catalog, "w");
    assert_eq!((view.newest_first().len(), view.deployable().len()), (101, 100));
    assert!(!view.is_deployable(first) && view.is_deployable(ids[1]) && view.is_deployable(ids[100]));
    assert!(!view.is_deployable(VersionId::from_random([1; 16])));
    // Also where it is the one that is live (`VER-9`): it stays, but no new deployment may name it.
    let refused = deploy(&node.catalog, "w", &[(first, 50.0), (ids[100], 50.0)]).await;
    assert!(matches!(refused, Err(Error::NotDeployable { version }) if version == first));
    deploy(&node.catalog, "w", &[(ids[1], 100.0)]).await.unwrap();
}

#[tokio::test]
async fn a_node_takes_so_many_workers_and_no_more() {
    let node = Node::new().await;
    for n in 0..crate::domain::limits::WORKERS_MAX {
        node.catalog.create_draft(&worker(&format!("w{n}"))).await.unwrap();
    }
    assert!(matches!(node.catalog.create_draft(&worker("more")).await, Err(Error::TooManyWorkers)));
}
