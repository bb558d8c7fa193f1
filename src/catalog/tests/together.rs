//! Changes at the same time, restarts, and callers that go away. Two catalogs over one store stand for two nodes: what holds
//! between them holds by the store's checks, since they share no mutex.

use super::*;
use crate::store::fault::{Fault, FaultStore};

#[tokio::test]
async fn uploads_at_the_same_time_get_different_numbers() {
    let node = Node::new().await;
    let beside = node.open_again().await;
    Upload::default().deploy(&node.catalog, "w").await;
    beside.refresh().await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..20u8 {
        let catalog = if n % 2 == 0 { &node.catalog } else { &beside }.clone();
        tasks.push(tokio::spawn(async move {
            // What a client does on 10035.
            for _ in 0..1000 {
                match (Upload { module: n, ..Upload::default() }).try_only(&catalog, "w").await {
                    Err(Error::Conflict { .. } | Error::Busy { .. }) => tokio::task::yield_now().await,
                    outcome => return outcome.unwrap().version.number,
                }
            }
            panic!("never got through");
        }));
    }
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=21).collect::<Vec<u64>>());
    node.catalog.refresh().await.unwrap();
    beside.refresh().await.unwrap();
    assert_eq!(picture(&beside), picture(&node.catalog));
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));
}

#[tokio::test]
async fn deployments_at_the_same_time_are_ordered_and_none_is_lost() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let second = Upload::default().only(&node.catalog, "w").await;
    let beside = node.open_again().await;
    let mut tasks = Vec::new();
    for n in 0..20u32 {
        let catalog = if n % 2 == 0 { &node.catalog } else { &beside }.clone();
        let share = f64::from(n) * 5.0;
        tasks.push(tokio::spawn(async move {
            deploy(&catalog, "w", &[(first, share), (second, 100.0 - share)]).await.unwrap().deployment.id
        }));
    }
    let mut made = BTreeSet::new();
    for task in tasks {
        made.insert(task.await.unwrap());
    }
    node.catalog.refresh().await.unwrap();
    let view = seen(&node.catalog, "w");
    assert_eq!(view.deployments.len(), 21);
    assert!(view.deployments[..20].iter().all(|deployment| made.contains(&deployment.id)));
    // Each was derived from the one that came to be before it (`D2`).
    for pair in view.deployments.windows(2) {
        let derived = crate::domain::allotment::Allotment::derive(Some(&pair[1].allotment), &pair[0].split);
        assert_eq!(pair[0].allotment, derived);
    }
}

#[tokio::test]
async fn a_stale_catalog_asks_the_rules_again() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        Upload::default().deploy(&node.catalog, name).await;
    }
    let beside = node.open_again().await;
    let route = |pattern: &str| Route { pattern: pattern.parse().unwrap(), zone_name: None, zone_id: None };
    node.catalog.set_routes(&worker("a"), vec![route("x.test/*")]).await.unwrap();
    let taken = beside.set_routes(&worker("b"), vec![route("x.test/*")]).await;
    assert!(matches!(taken, Err(Error::RouteTaken { owner: Some(owner), .. }) if owner == worker("a")));

    let latest = Upload::default().only(&node.catalog, "a").await;
    let put = beside.edit_secrets(&worker("a"), edit(&[("S", "1")], &[]), SecretTarget::LatestDeployed).await;
    assert!(matches!(put, Err(Error::SecretEditBlocked { latest: id }) if id == latest));

    let active = seen(&beside, "b").active.as_ref().unwrap().id;
    let newest = Upload::default().deploy(&node.catalog, "b").await.version.id;
    let late = NewDeployment { if_match: Some(active), ..wish(&[(seen(&beside, "b").latest().unwrap().id, 100.0)]) };
    assert!(matches!(beside.deploy(&worker("b"), late).await, Err(Error::NotActive { .. })));
    beside.delete_version(&worker("b"), newest).await.unwrap_err();
    node.catalog.set_disabled_routes(vec!["q.test/*".parse().unwrap()]).await.unwrap();
    beside.set_disabled_routes(vec!["r.test/*".parse().unwrap()]).await.unwrap();
    // What the second call took away is free again.
    beside.set_routes(&worker("b"), vec![route("q.test/*")]).await.unwrap();
}

#[tokio::test]
async fn a_change_of_one_worker_shares_all_others() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        Upload::default().deploy(&node.catalog, name).await;
    }
    let before = node.catalog.view();
    Upload::default().deploy(&node.catalog, "a").await;
    let after = node.catalog.view();
    let same = |name| Arc::ptr_eq(before.worker(&worker(name)).unwrap(), after.worker(&worker(name)).unwrap());
    assert!(same("b") && !same("a"));
    // A view never changes: whoever looked before still sees what was.
    assert_eq!(before.worker(&worker("a")).unwrap().newest_first().len(), 1);
    let (old, new) = (before.worker(&worker("a")).unwrap(), after.worker(&worker("a")).unwrap());
    assert!(Arc::ptr_eq(old.latest().unwrap(), new.version(old.latest().unwrap().id).unwrap()));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_stale_view() {
    let node = Node::new().await;
    Upload::default().deploy(&node.catalog, "w").await;
    for polls in 0..6 {
        let before = seen(&node.catalog, "w").deployments.len();
        let latest = seen(&node.catalog, "w").latest().unwrap().id;
        let catalog = Arc::clone(&node.catalog);
        let caller = tokio::spawn(async move { deploy(&catalog, "w", &[(latest, 100.0)]).await.map(|_| ()) });
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        caller.abort();
        let _ = caller.await;
        // Waits for its turn behind the change that was left alone.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        node.catalog.set_settings(&worker("w"), serde_json::json!(polls)).await.unwrap();
        let after = seen(&node.catalog, "w").deployments.len();
        assert!(after == before || after == before + 1);
        assert_eq!(picture(&node.open_again().await), picture(&node.catalog));
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let node = Node::new().await;
    let first =
        Upload::default().secret("S", "1").text("T", "t").alias("s").deploy(&node.catalog, "w").await.version.id;
    let second = Upload { module: 3, ..Upload::default() }.service("B", "other").only(&node.catalog, "w").await;
    deploy(&node.catalog, "w", &[(second, 33.333), (first, 66.667)]).await.unwrap();
    node.catalog.create_draft(&worker("d")).await.unwrap();
    node.catalog.edit_secrets(&worker("d"), edit(&[("S", "x")], &[]), SecretTarget::LatestDeployed).await.unwrap();
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));
}

#[tokio::test]
async fn a_record_of_a_newer_sluice_is_refused_by_name() {
    let node = Node::new().await;
    Upload::default().deploy(&node.catalog, "w").await;
    let key = record::version_key(&worker("w"), 1);
    let value = node.store.get(&key).await.unwrap().unwrap().value;
    let newer = String::from_utf8(value.to_vec()).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    node.store.commit(vec![], vec![crate::store::Write::put(key, newer.into_bytes())]).await.unwrap();
    let refused = Catalog::open(node.store.clone(), node.dir.path(), node.clock.clone()).await.err().unwrap();
    assert!(matches!(refused, Error::Record { source: Damaged::NewerFormat { found: 2 }, .. }));
}

#[tokio::test]
async fn a_failed_commit_leaves_the_view_at_what_the_store_holds() {
    let node = Node::new().await;
    let version = Upload::default().deploy(&node.catalog, "w").await.version.id;
    for fault in [Fault::Refuse, Fault::LoseAnswer] {
        let store = Arc::new(FaultStore::at(node.store.clone(), 1, fault));
        let catalog = Catalog::open(store, node.dir.path(), node.clock.clone()).await.unwrap();
        let before = seen(&catalog, "w").deployments.len();
        let failed = deploy(&catalog, "w", &[(version, 100.0)]).await;
        assert!(matches!(failed, Err(Error::Commit { .. })));
        let happened = usize::from(fault == Fault::LoseAnswer);
        assert_eq!(seen(&catalog, "w").deployments.len(), before + happened, "{fault:?}");
        assert_eq!(picture(&node.open_again().await), picture(&catalog));
        deploy(&catalog, "w", &[(version, 100.0)]).await.unwrap();
    }
}

#[tokio::test]
async fn overtaken_commits_are_decided_again() {
    let node = Node::new().await;
    let version = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let slow = FaultStore::new(node.store.clone(), |n| (n % 2 == 1).then_some(Fault::Delay { turns: 50 }));
    let slow = Catalog::open(Arc::new(slow), node.dir.path(), node.clock.clone()).await.unwrap();
    let late = tokio::spawn({
        let slow = Arc::clone(&slow);
        async move { deploy(&slow, "w", &[(version, 100.0)]).await.unwrap().deployment.id }
    });
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    let early = deploy(&node.catalog, "w", &[(version, 100.0)]).await.unwrap().deployment.id;
    let late = late.await.unwrap();
    let newest: Vec<_> = seen(&slow, "w").deployments.iter().map(|deployment| deployment.id).take(2).collect();
    assert_eq!(newest, [late, early]);
}
