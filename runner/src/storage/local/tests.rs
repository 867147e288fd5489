use super::temporary::PREFIX;
use super::*;
use crate::faults::NoFaults;

fn store() -> (tempfile::TempDir, LocalStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open_table(&folder.path().join("a/b"), Arc::new(NoFaults)).unwrap();
    (folder, store)
}

async fn staged(store: &LocalStore, path: &str, content: &'static [u8]) -> StagedFacts {
    let mut file = store.stage(path).await.unwrap();
    file.write(Bytes::from_static(content)).await.unwrap();
    file.finish().await.unwrap()
}

/// A process that is killed between the link and its removal leaves the temporary name; the next one has its number.
#[tokio::test]
async fn what_a_killed_process_left_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let open = || LocalStore::open(folder.path(), Arc::new(NoFaults)).unwrap();
    open().create("log/0", "first".into()).await.unwrap();
    for number in 0..3 {
        let left = folder.path().join(format!("log/{PREFIX}{}-{number}", std::process::id()));
        fs::hard_link(folder.path().join("log/0"), left).unwrap();
    }
    open().create("log/1", "second".into()).await.unwrap();
    assert_eq!(open().get("log/0").await.unwrap().unwrap(), "first");
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_and_what_somebody_writes_is_not() {
    let (folder, store) = store();
    let owner = paths::owner(1);
    store.create(&owner, Bytes::from_static(b"owner")).await.unwrap();
    let beside = folder.path().join("a/_dataplatform/b");
    let of_the_table = folder.path().join("a/b/d=1/.tmp-1-x");
    fs::create_dir_all(of_the_table.parent().unwrap()).unwrap();
    let left = [folder.path().join("a/b"), beside.clone(), beside.join("owner")].map(|f| f.join(".tmp-1-left"));
    fs::write(&left[0], "probe").unwrap();
    fs::write(&left[1], "half of a progr").unwrap();
    fs::hard_link(store.file(&owner).unwrap(), &left[2]).unwrap();
    fs::write(&of_the_table, "").unwrap();
    let written = store.write_temporary(&beside.join("progress.json"), b"progress").unwrap();
    let next = || LocalStore::open_table(&folder.path().join("a/b"), Arc::new(NoFaults)).unwrap();
    next().delete_left_over().await.unwrap();
    assert_eq!(left.each_ref().map(|path| path.exists()), [false; 3]);
    assert!(of_the_table.exists(), "directories of a table are not gone through");
    assert_eq!(store.get(&owner).await.unwrap().unwrap(), "owner", "only the second name of the record went");
    assert!(written.path().exists(), "somebody is writing it");
    // Who was killed holds no lock.
    let path = written.path().to_owned();
    drop(written);
    next().delete_left_over().await.unwrap();
    assert!(!path.exists());
    LocalStore::open(&folder.path().join("none"), Arc::new(NoFaults)).unwrap().delete_left_over().await.unwrap();
}

#[tokio::test]
async fn an_object_is_created_once() {
    let (_folder, store) = store();
    assert_eq!(store.create("log/1", Bytes::from_static(b"a")).await.unwrap(), Created::Yes);
    assert_eq!(store.create("log/1", Bytes::from_static(b"b")).await.unwrap(), Created::AlreadyExists);
    assert_eq!(store.get("log/1").await.unwrap().unwrap(), "a");
    assert_eq!(store.get("log/2").await.unwrap(), None);
    assert_eq!(store.list("").await.unwrap(), [ObjectEntry { path: "log/1".to_owned(), bytes: 1 }]);
}

#[tokio::test]
async fn a_staged_file_is_published_once_and_never_overwrites() {
    for naming in [Naming::HardLink, Naming::RenameNoReplace] {
        let (_folder, store) = store();
        store.naming.set(naming).unwrap();
        store.naming_beside.set(naming).unwrap();
        let facts = staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
        assert_eq!((facts.bytes, facts.xxh3), (7, crate::storage::checksum::checksum(b"content")));
        assert_eq!(store.publish("_dataplatform/staging/l/1/x.tmp", "d=1/x.parquet").await.unwrap(), Published::Yes);
        staged(&store, "_dataplatform/staging/l/1/y.tmp", b"other").await;
        let again = store.publish("_dataplatform/staging/l/1/y.tmp", "d=1/x.parquet").await.unwrap();
        assert_eq!(again, Published::AlreadyExists);
        assert_eq!(store.get("d=1/x.parquet").await.unwrap().unwrap(), "content");
        let missing = store.publish("_dataplatform/staging/l/1/none.tmp", "d=2/x.parquet").await.unwrap();
        assert_eq!(missing, Published::StageMissing);
        store.sync_entries(&["d=1/x.parquet".to_owned(), "d=2/z".to_owned()]).await.unwrap();
    }
}

#[tokio::test]
async fn the_bookkeeping_lies_beside_the_table_and_the_tables_folder_holds_the_table_alone() {
    let (folder, store) = store();
    store.probe().await.unwrap();
    store.create(paths::PROGRESS, Bytes::from_static(b"p")).await.unwrap();
    staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
    store.publish("_dataplatform/staging/l/1/x.tmp", "d=1/x.parquet").await.unwrap();
    let listed = |listed: Vec<ObjectEntry>| listed.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
    assert_eq!(listed(store.list("").await.unwrap()), ["d=1/x.parquet"]);
    assert_eq!(listed(store.list(paths::STAGING).await.unwrap()), ["_dataplatform/staging/l/1/x.tmp"]);
    assert_eq!(fs::read(folder.path().join("a/_dataplatform/b/progress.json")).unwrap(), b"p");
    assert_eq!(store.file(paths::PROGRESS).unwrap(), store.folder().with_file_name("_dataplatform/b/progress.json"));
    let names: Vec<_> = fs::read_dir(folder.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["d=1"]);
}

#[tokio::test]
async fn a_staged_name_that_is_taken_is_never_written_over() {
    let (_folder, store) = store();
    staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
    let error = store.stage("_dataplatform/staging/l/1/x.tmp").await.err().unwrap();
    assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
    assert_eq!(store.get("_dataplatform/staging/l/1/x.tmp").await.unwrap().unwrap(), "content");
}

#[tokio::test]
async fn a_checksum_is_that_of_the_content_however_long_it_is() {
    let (_folder, store) = store();
    for length in [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7] {
        let content = vec![length as u8; length];
        store.replace("x", content.clone().into()).await.unwrap();
        let facts = StagedFacts { bytes: length as u64, xxh3: crate::storage::checksum::checksum(&content) };
        assert_eq!(store.facts("x").await.unwrap(), Some(facts));
    }
    assert_eq!(store.facts("none").await.unwrap(), None);
}

#[test]
fn a_place_has_one_name_however_it_is_spelled() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    fs::create_dir_all(base.join("real/t")).unwrap();
    std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();
    std::os::unix::fs::symlink("coming/t", base.join("early")).unwrap();
    std::os::unix::fs::symlink("self", base.join("self")).unwrap();
    for (spelled, expected) in [
        ("real/t", "real/t"),
        ("link/t", "real/t"),
        ("link/../link/t/.", "real/t"),
        ("link/new/deep", "real/new/deep"),
        ("none/../real/t", "real/t"),
        ("early", "coming/t"),
        ("early/x", "coming/t/x"),
        ("self", "self"),
        ("t#1", "t#1"),
        ("u%41", "u%41"),
    ] {
        assert_eq!(canonical(&base.join(spelled)).unwrap(), base.join(expected), "{spelled}");
    }
}

#[test]
fn a_root_in_the_log_leads_back_to_its_folder_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["t", "t#1", "u%41", "v?x", "a b", "ü", "x\\y", "a;b&c+d'e:f*g"] {
        let store = LocalStore::open_table(&folder.path().join(name), Arc::new(NoFaults)).unwrap();
        let back = crate::storage::location::Location::of_root(store.root()).unwrap();
        assert_eq!(back.folder(), Some(store.folder()), "{name}: {}", store.root());
    }
}

#[tokio::test]
async fn a_table_that_cannot_have_its_bookkeeping_beside_it_is_refused_by_name() {
    let error = LocalStore::open_table(Path::new("/"), Arc::new(NoFaults)).err().unwrap();
    assert!(error.to_string().contains("beside"), "{error}");
    // Another file system: files cannot be moved from there.
    if Path::new("/dev/shm").is_dir() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let table = folder.path().join("t");
        let mut store = LocalStore::open_table(&table, Arc::new(NoFaults)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        store.beside = Some(elsewhere.path().join("_dataplatform/t"));
        let error = store.probe().await.unwrap_err().to_string();
        assert!(error.contains("beside it") && error.contains(&table.display().to_string()), "{error}");
    }
}

#[test]
fn names_end_where_the_file_system_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open_table(&folder.path().join("t"), Arc::new(NoFaults)).unwrap();
    let Limits { name, path } = store.limits();
    assert!((1..=255).contains(&name) && (3_000..4_000).contains(&path), "{name} {path}");
}

#[tokio::test]
async fn nothing_is_written_outside_the_root() {
    let (_folder, store) = store();
    for path in ["../x", "/x", "a/../../x", "", "_dataplatform/../x", "_dataplatform/../../x"] {
        let refused = store.create(path, Bytes::new()).await;
        assert!(matches!(refused, Err(StoreError::Unsuitable(_) | StoreError::Failed { .. })), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let store = LocalStore::open(&file.join("x"), Arc::new(NoFaults)).unwrap();
    let error = store.probe().await.unwrap_err();
    assert!(error.to_string().contains("file/x"), "{error}");
}

#[tokio::test]
async fn looking_at_a_folder_does_not_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&folder.path().join("x"), Arc::new(NoFaults)).unwrap();
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(store.get("log/1").await.unwrap(), None);
    store.sync_entries(&["log/1".to_owned()]).await.unwrap();
    assert!(!folder.path().join("x").exists());
}
