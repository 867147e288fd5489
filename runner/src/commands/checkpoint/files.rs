//! Files of outputs, compared with what the log says of them.

use crate::checkpoint::output::Listed;
use crate::checkpoint::record::FileCommit;
use crate::sink::footer::{self, FileFacts};
use crate::sink::table::text_rows;
use crate::storage::{SharedStore, StoreError, paths};

/// A file that a commit names, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// As it was written.
    Good,
    /// Decided and staged: the next start publishes it.
    Staged,
    /// Its rows are in another file of the directory, into which it was merged.
    Merged,
    /// Neither published nor staged.
    Missing,
    /// Of another length.
    Length(u64),
    /// Of the right length, with other content.
    Changed,
}

impl FileState {
    /// What is wrong with it; `None` if nothing is.
    pub(crate) fn problem(&self, file: &FileCommit) -> Option<String> {
        match self {
            Self::Good | Self::Staged | Self::Merged => None,
            Self::Missing => Some("it is missing".to_owned()),
            Self::Length(found) => Some(format!("it has {found} bytes, {} were written", file.bytes)),
            Self::Changed => Some("its content is not what was written".to_owned()),
        }
    }
}

/// Looks at a file of a commit. `may_be_staged` says that the commit is not known to be published.
pub(crate) async fn check_file(
    output: &SharedStore,
    file: &FileCommit,
    may_be_staged: bool,
) -> Result<FileState, StoreError> {
    let state = check_object(output, &file.path, file).await?;
    if state != FileState::Missing {
        return Ok(state);
    }
    if may_be_staged && check_object(output, &file.stage, file).await? == FileState::Good {
        return Ok(FileState::Staged);
    }
    Ok(if is_merged(output, &file.path).await? { FileState::Merged } else { FileState::Missing })
}

/// Whether another file of its directory says that this one was merged into it.
async fn is_merged(output: &SharedStore, path: &str) -> Result<bool, StoreError> {
    let Some((folder, name)) = path.rsplit_once('/') else { return Ok(false) };
    let mut parts = name.rsplitn(3, '-');
    let (_number, version, job_and_log) = (parts.next(), parts.next(), parts.next());
    let (Some(Ok(version)), Some(job_and_log)) = (version.map(str::parse::<u64>), job_and_log) else {
        return Ok(false);
    };
    for entry in output.list(folder).await? {
        if paths::is_merged_into(path, &entry.path) {
            return Ok(true);
        }
        let other = entry.path.strip_prefix(folder).unwrap_or_default().trim_start_matches('/');
        let is_of_log = other.strip_prefix(job_and_log).is_some_and(|rest| rest.starts_with('-'));
        if !is_of_log || paths::visible_ending(&entry.path) != Some(paths::PARQUET) {
            continue;
        }
        let facts = footer::of_file(output, &entry.path).await?.and_then(Result::ok);
        let merged = facts.and_then(|facts| facts.footer).and_then(|footer| footer.merged);
        if merged.is_some_and(|(first, last)| (first..=last).contains(&version)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same of a table whose log says which files it has. `None`: other writers have put its rows into other files.
pub(crate) async fn check_listed(
    output: &SharedStore,
    listed: Option<&Listed>,
    file: &FileCommit,
    may_be_staged: bool,
) -> Result<Option<FileState>, StoreError> {
    let Some(listed) = listed else { return check_file(output, file, may_be_staged).await.map(Some) };
    let is_active = listed.active.contains(&file.path);
    if !is_active && is_in_merged(listed, &file.path) {
        return Ok(Some(FileState::Merged));
    }
    if listed.replaced.contains(&file.path) {
        return Ok(None);
    }
    Ok(Some(match check_object(output, &file.path, file).await? {
        FileState::Good if is_active => FileState::Good,
        FileState::Good if may_be_staged => FileState::Staged,
        FileState::Good => FileState::Missing,
        state => state,
    }))
}

/// Whether the table has a file of the same directory that says by its name that this one was merged into it.
fn is_in_merged(listed: &Listed, path: &str) -> bool {
    let folder = path.rsplit_once('/').map_or(0, |(folder, _)| folder.len() + 1);
    let beside =
        listed.active.range(path[..folder].to_owned()..).take_while(|other| other.starts_with(&path[..folder]));
    beside.into_iter().any(|other| paths::is_merged_into(path, other))
}

async fn check_object(store: &SharedStore, path: &str, file: &FileCommit) -> Result<FileState, StoreError> {
    match store.length(path).await? {
        None => return Ok(FileState::Missing),
        Some(found) if found != file.bytes => return Ok(FileState::Length(found)),
        Some(_) => {}
    }
    let Some(found) = store.facts(path).await? else { return Ok(FileState::Missing) };
    Ok(if found.xxh3 == file.xxh3 { FileState::Good } else { FileState::Changed })
}

/// Rows and footer of a file that is called `name` for readers; the inner error says why it is none. Of a local Parquet file
/// only the end is read.
pub(crate) async fn read_facts(
    output: &SharedStore,
    path: &str,
    name: &str,
) -> Result<Result<FileFacts, String>, StoreError> {
    if paths::visible_ending(name).and_then(paths::text_of).is_some() {
        let Some(content) = output.get(path).await? else { return Ok(Err("it is gone".to_owned())) };
        let rows = text_rows(name, &content).unwrap_or(Ok(0));
        return Ok(rows.map(|rows| FileFacts { rows, footer: None }));
    }
    Ok(footer::of_file(output, path).await?.unwrap_or_else(|| Err("it is gone".to_owned())))
}
