//! Classes of Durable Objects: what migrations make of them, who may bind them, and what becomes of their objects (`MIG-*`).

use super::*;
use crate::domain::class::{Class, ClassStorage, Classes};
use crate::domain::config::FaultKind;
use crate::domain::migration::{Rename, Step, Transfer};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::store::Write;
use crate::store::fault::{Fault, FaultStore};

fn class(name: &str) -> ClassName {
    name.parse().unwrap()
}

fn namespace(n: u8) -> ObjectNamespaceId {
    ObjectNamespaceId::from_bytes([n; 16])
}

/// Gives a worker these classes, and these names of classes that are past.
async fn put_classes(node: &Node, name: &str, classes: &[(&str, u8)], forwards: &[(&str, u8)]) {
    let made = |n: u8| Class { namespace: namespace(n), storage: ClassStorage::Sqlite };
    let mut head = seen(&node.catalog, name).head();
    head.classes = Classes {
        by_name: classes.iter().map(|(name, n)| (class(name), made(*n))).collect(),
        forwards: forwards.iter().map(|(name, n)| (class(name), namespace(*n))).collect(),
        ..Classes::default()
    };
    let head = head.encode(&worker(name), &node.catalog.sealer).unwrap();
    node.store.commit(Vec::new(), vec![Write::put(record::head_key(&worker(name)), head)]).await.unwrap();
    node.catalog.refresh().await.unwrap();
}

#[tokio::test]
async fn a_namespace_is_found_by_every_name_that_its_class_has_or_had() {
    let node = Node::new().await;
    for name in ["a", "b"] {
        Upload::default().deploy(&node.catalog, name).await;
    }
    put_classes(&node, "a", &[("Room", 1)], &[("Chat", 1), ("Log", 2), ("Gone", 3)]).await;
    put_classes(&node, "b", &[("Journal", 2)], &[]).await;
    let view = node.catalog.view();
    let found = |name: &str, of: &str| view.object_namespace(&worker(name), &class(of));
    assert_eq!(found("a", "Room"), Some(namespace(1)));
    assert_eq!(found("a", "Chat"), Some(namespace(1)));
    assert_eq!(found("a", "Log"), Some(namespace(2)), "handed to another worker");
    assert_eq!(found("b", "Journal"), Some(namespace(2)));
    assert_eq!((found("a", "Gone"), found("b", "Room"), found("c", "Room")), (None, None, None));
    let owner = |n| view.object_class(namespace(n)).map(|(worker, class)| (worker.name.as_str(), class.as_str()));
    assert_eq!(owner(1), Some(("a", "Room")));
    assert_eq!(owner(2), Some(("b", "Journal")));
    assert_eq!(owner(3), None);
}

#[tokio::test]
async fn objects_of_a_deleted_worker_are_doomed_until_someone_says_they_are_gone() {
    let node = Node::new().await;
    Upload::default().deploy(&node.catalog, "a").await;
    put_classes(&node, "a", &[("Room", 2), ("Log", 1)], &[("Chat", 2)]).await;
    assert!(node.catalog.doomed_namespaces().is_empty());
    node.catalog.delete_worker(&worker("a"), Force::No).await.unwrap();
    assert_eq!(node.catalog.doomed_namespaces(), [namespace(1), namespace(2)]);
    assert!(node.catalog.view().object_class(namespace(1)).is_none());
    // A worker of that name later has other objects.
    Upload::default().deploy(&node.catalog, "a").await;
    assert_eq!(seen(&node.catalog, "a").classes, Classes::default());

    let again = node.open_again().await;
    assert_eq!(again.doomed_namespaces(), [namespace(1), namespace(2)]);
    again.forget_doomed(namespace(1)).await.unwrap();
    again.forget_doomed(namespace(9)).await.unwrap();
    assert_eq!(again.doomed_namespaces(), [namespace(2)]);
    assert_eq!(node.open_again().await.doomed_namespaces(), [namespace(2)]);
}

/// A component that implements objects.
fn object_upload() -> Upload {
    Upload { implements_objects: true, ..Upload::default() }
}

/// A migration of one step, from the tag that `name` has to the next one.
fn step(catalog: &Arc<Catalog>, name: &str, step: Step) -> Option<Migration> {
    let old_tag = catalog.view().worker(&worker(name)).and_then(|worker| worker.classes.tag.clone());
    let next = old_tag.as_deref().map_or(1, |tag| tag[1..].parse::<u32>().unwrap() + 1);
    Some(Migration { old_tag, new_tag: format!("v{next}"), steps: vec![step] })
}

fn making(names: &[&str]) -> Step {
    Step { new_sqlite_classes: names.iter().map(|name| (*name).into()).collect(), ..Step::default() }
}

fn deleting(name: &str) -> Step {
    Step { deleted_classes: vec![name.into()], ..Step::default() }
}

fn renaming(from: &str, to: &str) -> Step {
    Step { renamed_classes: vec![Rename { from: from.into(), to: to.into() }], ..Step::default() }
}

fn taking(from_script: &str, from: &str, to: &str) -> Step {
    let transfer = Transfer { from: from.into(), from_script: from_script.into(), to: to.into() };
    Step { transferred_classes: vec![transfer], ..Step::default() }
}

/// Deploys a worker with a step of a migration.
async fn migrate(catalog: &Arc<Catalog>, name: &str, upload: Upload, change: Step) -> Result<Published, Error> {
    upload.try_deploy(catalog, name, step(catalog, name, change)).await
}

/// The kinds and messages of a refusal.
fn faults(refused: Result<Published, Error>) -> Vec<(FaultKind, String)> {
    match refused {
        Err(Error::Faults(faults)) => faults.into_iter().map(|fault| (fault.kind, fault.message)).collect(),
        other => panic!("not refused for its classes: {other:?}"),
    }
}

fn found(catalog: &Arc<Catalog>, name: &str, of: &str) -> Option<ObjectNamespaceId> {
    catalog.view().object_namespace(&worker(name), &class(of))
}

#[tokio::test]
async fn a_migration_is_one_with_its_version_and_deployment() {
    let node = Node::new().await;
    let upload = object_upload().object("ROOMS", "Room", None);
    let made = migrate(&node.catalog, "w", upload, making(&["Room"])).await.unwrap();
    let view = seen(&node.catalog, "w");
    assert_eq!(view.active.as_ref().map(|active| active.id), made.deployment.map(|deployment| deployment.id));
    assert_eq!((view.classes.tag.as_deref(), view.classes.fence), (Some("v1"), Some(1)));
    assert!(found(&node.catalog, "w", "Room").is_some());
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));

    // What is refused leaves nothing behind: no version, no class.
    let refused = migrate(&node.catalog, "w", object_upload(), making(&["Log", "Room"])).await;
    assert_eq!(faults(refused)[0].0, FaultKind::Migration);
    assert_eq!(seen(&node.catalog, "w").newest_first().len(), 1);
    assert_eq!(found(&node.catalog, "w", "Log"), None);
    // The same again: the tag has moved on.
    let again = Migration { old_tag: None, new_tag: "v1".into(), steps: vec![making(&["Room"])] };
    let (kind, message) = faults(object_upload().try_deploy(&node.catalog, "w", Some(again)).await).remove(0);
    assert_eq!(kind, FaultKind::Migration);
    assert!(message.contains("`w` has the migration tag `v1`"), "{message}");
}

#[tokio::test]
async fn a_commit_that_fails_leaves_neither_class_nor_doom() {
    let node = Node::new().await;
    migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap();
    let before = picture(&node.catalog);
    let store = Arc::new(FaultStore::at(node.store.clone(), 1, Fault::Refuse));
    let faulty = Catalog::open(store, node.dir.path(), node.clock.clone()).await.unwrap();
    let failed = migrate(&faulty, "w", Upload::default(), deleting("Room")).await;
    assert!(matches!(failed, Err(Error::Commit { .. })));
    assert_eq!((picture(&faulty), picture(&node.open_again().await)), (before.clone(), before));
    migrate(&faulty, "w", Upload::default(), deleting("Room")).await.unwrap();
    assert_eq!(faulty.doomed_namespaces().len(), 1);

    // One that happened, and whose answer was lost, is seen at once.
    let store = Arc::new(FaultStore::at(node.store.clone(), 1, Fault::LoseAnswer));
    let faulty = Catalog::open(store, node.dir.path(), node.clock.clone()).await.unwrap();
    migrate(&faulty, "w", object_upload(), making(&["Room"])).await.unwrap_err();
    assert!(found(&faulty, "w", "Room").is_some());
    assert_eq!(picture(&faulty), picture(&node.open_again().await));
}

#[tokio::test]
async fn bindings_need_a_class_that_a_migration_made() {
    let node = Node::new().await;
    let upload = || object_upload().object("A", "Room", None);
    let (kind, message) = faults(upload().try_deploy(&node.catalog, "w", None).await).remove(0);
    assert_eq!(kind, FaultKind::ClassUnknown);
    assert!(message.contains("`A` to the class `Room`: no migration has made it"), "{message}");
    migrate(&node.catalog, "w", upload(), making(&["Room"])).await.unwrap();
    upload().deploy(&node.catalog, "w").await;
    upload().only(&node.catalog, "w").await;
    let only = upload().object("B", "Log", None).try_only(&node.catalog, "w").await;
    assert_eq!(faults(only)[0].0, FaultKind::ClassUnknown, "not deployed, and refused all the same");

    let front = |class: &str, script| Upload::default().object("R", class, Some(script));
    let refused = faults(front("Room", "nobody").try_deploy(&node.catalog, "f", None).await).remove(0);
    assert!(refused.0 == FaultKind::ClassUnknown && refused.1.contains("`nobody`, which is not there"), "{refused:?}");
    let refused = faults(front("Log", "w").try_deploy(&node.catalog, "f", None).await).remove(0);
    assert!(refused.1.contains("`Log`, which worker `w` does not have"), "{refused:?}");
    // A worker that binds classes of others needs no class of its own.
    front("Room", "w").deploy(&node.catalog, "f").await;
}

#[tokio::test]
async fn a_component_has_to_implement_the_classes_of_its_worker() {
    let node = Node::new().await;
    let refused = migrate(&node.catalog, "w", Upload::default(), making(&["Room", "Log"])).await;
    let (kind, message) = faults(refused).remove(0);
    assert_eq!(kind, FaultKind::ClassNotExported);
    assert!(message.contains("classes `Log`, `Room`") && message.contains("sluice:worker-p2/"), "{message}");
    migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap();
    let (kind, message) = faults(Upload::default().try_only(&node.catalog, "w").await).remove(0);
    assert_eq!(kind, FaultKind::ClassNotExported);
    assert!(message.contains("class `Room`"), "{message}");
    // Without its last class it has nothing to implement.
    migrate(&node.catalog, "w", Upload::default(), deleting("Room")).await.unwrap();
    Upload::default().only(&node.catalog, "w").await;
}

#[tokio::test]
async fn a_renamed_class_keeps_its_objects_and_others_find_it_until_their_next_upload() {
    let node = Node::new().await;
    migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap();
    let namespace = found(&node.catalog, "w", "Room");
    let front = || Upload::default().object("R", "Room", Some("w"));
    let first = front().deploy(&node.catalog, "f").await.version.id;
    migrate(&node.catalog, "w", object_upload().object("C", "Chat", None), renaming("Room", "Chat")).await.unwrap();
    assert_eq!((found(&node.catalog, "w", "Room"), found(&node.catalog, "w", "Chat")), (namespace, namespace));
    assert!(node.catalog.doomed_namespaces().is_empty());
    // It can be deployed and edited as it is; a new upload names the class as it is called now.
    deploy(&node.catalog, "f", &[(first, 100.0)]).await.unwrap();
    let edited = node.catalog.edit_secrets(&worker("f"), edit(&[("S", "1")], &[]), SecretTarget::LatestDeployed).await;
    edited.unwrap();
    let (kind, message) = faults(front().try_deploy(&node.catalog, "f", None).await).remove(0);
    assert!(kind == FaultKind::ClassUnknown && message.contains("is `Chat` of worker `w` now"), "{message}");
    let own = object_upload().object("C", "Room", None).try_deploy(&node.catalog, "w", None).await;
    assert!(faults(own)[0].1.contains("is called `Chat` now"));
    // Another class under the old name would put other objects in the place of those that `f` is bound to.
    let (kind, message) = faults(migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await).remove(0);
    assert!(kind == FaultKind::ClassInUse && message.contains("other objects") && message.contains("`f`"), "{message}");
    Upload::default().object("R", "Chat", Some("w")).deploy(&node.catalog, "f").await;
    migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap();
    assert_ne!(found(&node.catalog, "w", "Room"), namespace);
}

#[tokio::test]
async fn a_transferred_class_changes_both_workers_in_one_commit() {
    let node = Node::new().await;
    migrate(&node.catalog, "old", object_upload().object("R", "Room", None), making(&["Room"])).await.unwrap();
    let namespace = found(&node.catalog, "old", "Room").unwrap();
    let beside = node.open_again().await;
    migrate(&node.catalog, "new", object_upload(), taking("old", "Room", "Chat")).await.unwrap();
    assert_eq!(found(&node.catalog, "new", "Chat"), Some(namespace));
    assert_eq!(found(&node.catalog, "old", "Room"), Some(namespace), "its own binding is forwarded");
    let owner = |catalog: &Arc<Catalog>| {
        catalog.view().object_class(namespace).map(|(worker, class)| format!("{}.{class}", worker.name))
    };
    assert_eq!(owner(&node.catalog).as_deref(), Some("new.Chat"));
    assert_eq!(seen(&node.catalog, "old").classes.tag.as_deref(), Some("v1"));
    let own = object_upload().object("R", "Room", None).try_deploy(&node.catalog, "old", None).await;
    assert!(faults(own)[0].1.contains("handed to worker `new`, where it is `Chat`"));
    // A catalog that has not seen it finds out when it wants the same.
    let (kind, _) = faults(migrate(&beside, "third", object_upload(), taking("old", "Room", "Hall")).await).remove(0);
    assert_eq!(kind, FaultKind::Migration);
    assert_eq!(owner(&beside).as_deref(), Some("new.Chat"));
    assert_eq!(picture(&beside), picture(&node.catalog));
    assert_eq!(picture(&node.open_again().await), picture(&node.catalog));

    // The new owner cannot drop the objects under the old one, nor go away.
    let (kind, message) = faults(migrate(&node.catalog, "new", Upload::default(), deleting("Chat")).await).remove(0);
    assert!(kind == FaultKind::ClassInUse && message.contains("worker `old` is bound to by `R`"), "{message}");
    let refused = node.catalog.delete_worker(&worker("new"), Force::No).await;
    assert!(matches!(refused, Err(Error::WorkerInUse { by, .. }) if by == [worker("old")]));
}

#[tokio::test]
async fn a_class_goes_once_nobody_binds_it_and_its_objects_are_doomed() {
    let node = Node::new().await;
    let owner = || object_upload().object("R", "Room", None);
    migrate(&node.catalog, "w", owner(), making(&["Room", "Log"])).await.unwrap();
    let namespace = found(&node.catalog, "w", "Room").unwrap();
    let binding = Upload::default().object("R", "Room", Some("w")).deploy(&node.catalog, "f").await.version.id;
    let refused = faults(migrate(&node.catalog, "w", owner(), deleting("Room")).await);
    assert_eq!(refused.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [FaultKind::ClassInUse; 2]);
    assert!(refused[0].1.contains("worker `f`") && refused[1].1.contains("of this very upload"), "{refused:?}");
    assert!(node.catalog.doomed_namespaces().is_empty());

    let plain = Upload::default().deploy(&node.catalog, "f").await.version.id;
    migrate(&node.catalog, "w", object_upload(), deleting("Room")).await.unwrap();
    assert_eq!(node.catalog.doomed_namespaces(), [namespace]);
    assert_eq!(found(&node.catalog, "w", "Room"), None);
    assert!(found(&node.catalog, "w", "Log").is_some());
    // What bound it is not live again.
    let gone = deploy(&node.catalog, "f", &[(binding, 50.0), (plain, 50.0)]).await;
    assert!(matches!(gone, Err(Error::ObjectsGone { version, .. }) if version == binding));
    // Made again under the same name, it is another one; the objects of the first are doomed still.
    migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap();
    assert_ne!(found(&node.catalog, "w", "Room"), Some(namespace));
    assert_eq!(node.open_again().await.doomed_namespaces(), [namespace]);
}

#[tokio::test]
async fn nothing_older_than_the_last_migration_is_deployed_again() {
    let node = Node::new().await;
    let first = Upload::default().deploy(&node.catalog, "w").await.version.id;
    let second = migrate(&node.catalog, "w", object_upload(), making(&["Room"])).await.unwrap().version.id;
    let refused = deploy(&node.catalog, "w", &[(first, 100.0)]).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { number: 1, fence: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("older than the migration `v1` that came with version 2"), "{refused}");
    assert!(deploy(&node.catalog, "w", &[(second, 99.0), (first, 1.0)]).await.is_err(), "not to a share of it either");
    let dry = NewDeployment { mode: ApplyMode::DryRun, force: Force::Yes, ..wish(&[(first, 100.0)]) };
    assert!(matches!(node.catalog.deploy(&worker("w"), dry).await, Err(Error::Fenced { .. })));

    // Back and forth on this side of it; secrets make copies of the newest, which are newer.
    let third = object_upload().deploy(&node.catalog, "w").await.version.id;
    deploy(&node.catalog, "w", &[(second, 100.0)]).await.unwrap();
    deploy(&node.catalog, "w", &[(third, 100.0)]).await.unwrap();
    let edited = node.catalog.edit_secrets(&worker("w"), edit(&[("S", "1")], &[]), SecretTarget::LatestDeployed).await;
    assert_eq!(edited.unwrap().version.unwrap().number, 4);
    assert_eq!(seen(&node.catalog, "w").classes.fence, Some(2), "an upload without a migration moves no fence");
}
