//! Classes of Durable Objects: what migrations make of them, who may bind them, and what becomes of their objects (`MIG-*`).

use super::*;
use crate::domain::class::{Class, ClassStorage, Classes};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::store::Write;

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
