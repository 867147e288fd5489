//! Staged files on their way to an object store: a small one is one request, a larger one goes in parts; either way the next
//! file is written meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use twox_hash::XxHash3_64;

use crate::storage::checksum::xxh3_hex;
use crate::storage::client;
use crate::storage::client::explain::explain;
use crate::storage::{StagedFacts, StagedFile, StoreError};

/// Bytes of a part, and of the largest file that goes in one request. S3 wants at least 5 MiB for all parts but the last;
/// more than 8 would only use memory.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Bytes that may be on their way at once, over all jobs of the process: a queue behind a slow store must not fill the memory.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// What a small file counts for: 64 at once are enough.
const LEAST_BYTES: usize = IN_FLIGHT_BYTES / 64;

static IN_FLIGHT: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(IN_FLIGHT_BYTES)));

/// Files that are finished and perhaps not there yet, by path.
pub(super) type Uploads = Rc<RefCell<BTreeMap<String, Upload>>>;

/// A file that is finished and perhaps not there yet.
pub(super) struct Upload {
    pub(super) task: JoinHandle<Result<(), Error>>,
    pub(super) facts: StagedFacts,
}

/// A file that is being written.
pub(super) struct RemoteFile {
    store: Arc<dyn ObjectStore>,
    location: Path,
    path: String,
    shown: String,
    uploads: Uploads,
    runtime: &'static Handle,
    /// What is not sent yet.
    pieces: Vec<Bytes>,
    held: usize,
    hash: XxHash3_64,
    bytes: u64,
    parts: Option<Parts>,
}

/// A file that is too large for one request.
struct Parts {
    /// `None` once it is completed: then there is nothing to abandon.
    upload: Option<Box<dyn MultipartUpload>>,
    sent: Vec<JoinHandle<Result<(), Error>>>,
    runtime: &'static Handle,
}

impl RemoteFile {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        location: Path,
        path: String,
        shown: String,
        uploads: Uploads,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            location,
            path,
            shown,
            uploads,
            runtime: client::runtime()?,
            pieces: Vec::new(),
            held: 0,
            hash: XxHash3_64::new(),
            bytes: 0,
            parts: None,
        })
    }

    fn error(&self, error: Error) -> StoreError {
        explain("write", self.shown.clone(), error)
    }

    /// Sends a part of what is held: all parts but the last have one size, as some stores want it.
    async fn send(&mut self, bytes: usize) -> Result<(), StoreError> {
        let payload = PutPayload::from_iter(take(&mut self.pieces, bytes));
        self.held -= bytes;
        let permit = permit(bytes).await;
        if self.parts.is_none() {
            let upload = self.store.put_multipart(&self.location).await.map_err(|error| self.error(error))?;
            self.parts = Some(Parts { upload: Some(upload), sent: Vec::new(), runtime: self.runtime });
        }
        let Some(Parts { upload: Some(upload), sent, .. }) = &mut self.parts else { return Ok(()) };
        let part = upload.put_part(payload);
        sent.push(self.runtime.spawn(async move {
            let _permit = permit;
            part.await
        }));
        Ok(())
    }
}

#[async_trait(?Send)]
impl StagedFile for RemoteFile {
    async fn write(&mut self, content: Bytes) -> Result<(), StoreError> {
        std::hash::Hasher::write(&mut self.hash, &content);
        self.bytes += content.len() as u64;
        self.held += content.len();
        self.pieces.push(content);
        // The last part must not be empty, so a whole part is sent only when there is more.
        while self.held > PART_BYTES {
            self.send(PART_BYTES).await?;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.held
    }

    async fn finish(mut self: Box<Self>) -> Result<StagedFacts, StoreError> {
        let facts = StagedFacts { bytes: self.bytes, xxh3: xxh3_hex(std::hash::Hasher::finish(&self.hash)) };
        let task = if self.parts.is_some() {
            self.send(self.held).await?;
            match self.parts.take() {
                Some(parts) => self.runtime.spawn(parts.complete()),
                None => return Ok(facts),
            }
        } else {
            let (store, location) = (Arc::clone(&self.store), self.location.clone());
            let permit = permit(self.held).await;
            let payload = PutPayload::from_iter(std::mem::take(&mut self.pieces));
            self.runtime.spawn(async move {
                let _permit = permit;
                store.put_opts(&location, payload, PutMode::Create.into()).await.map(drop)
            })
        };
        self.uploads.borrow_mut().insert(self.path.clone(), Upload { task, facts: facts.clone() });
        Ok(facts)
    }
}

impl Parts {
    async fn complete(mut self) -> Result<(), Error> {
        for part in std::mem::take(&mut self.sent) {
            part.await??;
        }
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        let completed = upload.complete().await.map(drop);
        if completed.is_err() {
            self.upload = Some(upload);
        }
        completed
    }
}

impl Drop for Parts {
    /// Parts of a file that is given up cost money until somebody removes them.
    fn drop(&mut self) {
        self.sent.iter().for_each(JoinHandle::abort);
        if let Some(mut upload) = self.upload.take() {
            self.runtime.spawn(async move {
                let _ = upload.abort().await;
            });
        }
    }
}

async fn permit(bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = bytes.clamp(LEAST_BYTES, IN_FLIGHT_BYTES);
    // It is never closed.
    Arc::clone(&IN_FLIGHT).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).await.ok()
}

/// Takes so many bytes from the front.
fn take(pieces: &mut Vec<Bytes>, bytes: usize) -> Vec<Bytes> {
    let (mut taken, mut missing) = (Vec::new(), bytes);
    let mut rest = std::mem::take(pieces).into_iter();
    for mut piece in rest.by_ref() {
        if piece.len() > missing {
            taken.push(piece.split_to(missing));
            pieces.push(piece);
            break;
        }
        missing -= piece.len();
        taken.push(piece);
        if missing == 0 {
            break;
        }
    }
    pieces.extend(rest);
    taken
}
