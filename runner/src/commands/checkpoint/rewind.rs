//! `checkpoint rewind`: shows what going back means, and does it with `--yes`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::args::RewindArgs;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::rewind::carry_out;
use crate::checkpoint::log::{LogError, OpenOutput};
use crate::checkpoint::output::files::{VoidFile, void_files};
use crate::checkpoint::record::{Rank, Record};
use crate::checkpoint::rewind::{
    RewindFacts, RewindPlan, RewindRefused, RewindRequest, TopicNow, needed_offsets, plan, ranges_text,
    snapshot_versions, target,
};
use crate::checkpoint::survey::Survey;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::run::candidate;
use crate::commands::{align_right, bytes, grouped, list, print, time};
use crate::config::job::DEFAULT_BOOTSTRAP_SERVERS;
use crate::config::{JobSource, load_streaming};
use crate::offsets::{Bounds, Partitions};
use crate::pipeline::error::JobError;
use crate::source::kafka::config::{Secrets, secrets_folder};
use crate::source::kafka::consumer::{KafkaSource, KafkaSourceSettings};
use crate::source::routes::TopicRoutes;
use crate::source::schemas::Schemas;
use crate::source::{Source, Trouble};
use crate::storage::lock::FolderLock;
use crate::storage::{SharedStore, StoreError, paths};

use super::verify::object_problem;
use super::{JobPlace, block_on, output_opener, outputs, read_facts, store_failed};

/// Fetch queue of the client that only asks questions.
const QUEUE_BYTES: usize = 1 << 20;

/// Runs the command.
pub(super) fn rewind(args: &RewindArgs) -> Result<u8, CommandError> {
    let place = JobPlace::find(&args.job, &args.place)?;
    // From here on no other runner of this machine starts or goes on.
    let _lock = match place.location.folder() {
        Some(folder) => Some(FolderLock::take(folder).map_err(|error| CommandError::Job(error.into()))?),
        None => None,
    };
    let survey = block_on(Survey::read(&place.store))?.map_err(store_failed)?;
    let kafka = ask_kafka(args, &survey)?;
    let request = RewindRequest {
        to: args.to,
        topics: args.topic_recreated.iter().map(|topic| (topic.clone(), topic_now(kafka.as_ref(), topic))).collect(),
        accept_loss: args.accept_loss,
    };
    let (preview, plan) = block_on(prepare(&place, &survey, &request, kafka.as_ref()))??;
    print(&preview);
    if !args.yes {
        print("\nNothing was changed. The same command with --yes does it.\n");
        return Ok(0);
    }
    let open = block_on(output_opener(&survey, place.outputs.as_ref()))?;
    let done = block_on(carry_out(&place.store, &open, &plan))?;
    done.map_err(|error| match error {
        LogError::Reload { .. } => CommandError::failed("the log was written meanwhile: stop the job, and look again"),
        error => CommandError::Job(JobError::from(error)),
    })?;
    print(&format!("\nDone. The next start of the job goes on after version {}.\n", plan.version));
    Ok(0)
}

/// Decides, and describes what was decided.
async fn prepare(
    place: &JobPlace,
    survey: &Survey,
    request: &RewindRequest,
    kafka: Option<&KafkaNow>,
) -> Result<(String, RewindPlan), CommandError> {
    let open = output_opener(survey, place.outputs.as_ref()).await;
    let highest_file = highest_file(survey, &open).await.map_err(store_failed)?;
    let goal = target(survey, request, highest_file).map_err(|error| refused(survey, &error))?;
    let damaged_state = damaged_state(&place.store, &goal).await.map_err(store_failed)?;
    let candidate = candidate(Rank::default(), None);
    let facts = RewindFacts {
        owner: candidate.owner,
        place: candidate.place,
        clock: SystemClock.now(),
        damaged_state,
        highest_file,
    };
    let plan = plan(survey, goal, request, &facts).map_err(|error| refused(survey, &error))?;
    let files = files_with_rows(survey, &open, &plan).await.map_err(store_failed)?;
    refuse_merged(&open, &files, plan.rewind.to).await?;
    Ok((describe(place, survey, &plan, &facts, &files, kafka), plan))
}

fn refused(survey: &Survey, error: &RewindRefused) -> CommandError {
    let hint = match error {
        RewindRefused::NothingDamaged { version } => {
            format!(
                "\n  versions whose state is whole in a snapshot, newest first: {}",
                snapshot_versions(survey, *version)
            )
        }
        _ => String::new(),
    };
    CommandError::user(format!("{error}{hint}"))
}

/// Highest version in the name of a visible file of this log.
async fn highest_file(survey: &Survey, open: &OpenOutput) -> Result<u64, StoreError> {
    let Some(state) = survey.head().state else { return Ok(0) };
    let mut highest = 0;
    for output in state.outputs.values().filter(|output| !output.root.is_empty()) {
        let Some(files) = outputs::files(open, &output.root)? else { continue };
        let seen: Vec<_> = match outputs::listed(open, &output.root).await? {
            Some(listed) => listed.active.into_iter().chain(listed.replaced).collect(),
            None => files.list("").await?.into_iter().map(|entry| entry.path).collect(),
        };
        for path in seen {
            highest = highest.max(paths::final_version(&path, &state.start.log_id).unwrap_or_default());
        }
    }
    Ok(highest)
}

async fn damaged_state(store: &SharedStore, state: &JobState) -> Result<Option<String>, StoreError> {
    let Some(snapshot) = state.usable_snapshot() else { return Ok(None) };
    for object in &snapshot.objects {
        if let Some(problem) = object_problem(store, object).await? {
            return Ok(Some(format!("{}/{}: {problem}", store.root(), object.path)));
        }
    }
    Ok(None)
}

/// A file that vanishes from an output, with its rows where they are known.
struct Vanishing {
    root: String,
    file: VoidFile,
    rows: Option<u64>,
}

async fn files_with_rows(survey: &Survey, open: &OpenOutput, plan: &RewindPlan) -> Result<Vec<Vanishing>, StoreError> {
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    for (_, record) in survey.readable() {
        let Record::Commit(commit) = record else { continue };
        for output in commit.outputs.values() {
            known.extend(output.files.iter().map(|file| (file.path.clone(), file.rows)));
        }
    }
    let mut vanishing = Vec::new();
    let mut places = BTreeSet::new();
    for root in &plan.outputs {
        let Some(store) = outputs::files(open, root)? else { continue };
        // A table that was moved has several roots in the log.
        if !places.insert(store.root().to_owned()) {
            continue;
        }
        let listed = outputs::listed(open, root).await?;
        let is_seen = |file: &VoidFile| listed.as_ref().is_none_or(|listed| listed.active.contains(&file.path));
        for file in void_files(&store, plan).await?.into_iter().filter(is_seen) {
            let rows = match known.get(&file.path) {
                Some(rows) => Some(*rows),
                // Its record cannot be read; the file tells as well.
                None => read_facts(&store, &file.path, &file.path).await?.ok().map(|facts| facts.rows),
            };
            vanishing.push(Vanishing { root: store.root().to_owned(), file, rows });
        }
    }
    Ok(vanishing)
}

/// A file into which files of several commits were merged goes or stays as a whole.
async fn refuse_merged(open: &OpenOutput, files: &[Vanishing], to: u64) -> Result<(), CommandError> {
    for Vanishing { root, file, .. } in files {
        let Some(store) = outputs::files(open, root).map_err(store_failed)? else { continue };
        let facts = read_facts(&store, &file.path, &file.path).await.map_err(store_failed)?.ok();
        let merged = facts.and_then(|facts| facts.footer).and_then(|footer| footer.merged);
        if let Some((first, last)) = merged.filter(|(first, _)| *first <= to) {
            return Err(CommandError::user(format!(
                "{root}/{} holds rows of the versions {first} to {last}, which were merged (sink.maintenance.compactAfter): \
                 they cannot be taken apart\n  go back to version {last} or a later one, or to one before {first}",
                file.path
            )));
        }
    }
    Ok(())
}

/// What Kafka says now.
struct KafkaNow {
    cluster_id: String,
    topics: BTreeMap<String, String>,
    bounds: Partitions<Bounds>,
}

fn topic_now(kafka: Option<&KafkaNow>, topic: &str) -> TopicNow {
    let Some(kafka) = kafka else { return TopicNow::default() };
    TopicNow {
        id: kafka.topics.get(topic).cloned().unwrap_or_default(),
        ends: kafka.bounds.topic(topic).map(|(partition, bounds)| (partition, bounds.end)).collect(),
    }
}

/// Asks for ids and offsets of the job's topics, if that is needed or was made possible.
fn ask_kafka(args: &RewindArgs, survey: &Survey) -> Result<Option<KafkaNow>, CommandError> {
    let servers = args.bootstrap_servers.clone().filter(|servers| !servers.is_empty());
    if servers.is_none() && args.topic_recreated.is_empty() {
        return Ok(None);
    }
    let Some(state) = survey.head().state else { return Ok(None) };
    let asked: BTreeSet<_> = state.topics.keys().chain(&args.topic_recreated).cloned().collect();
    let source = JobSource { name: Some(args.job.clone()), files: args.files.clone(), ..JobSource::default() };
    let loaded = load_streaming(&source);
    let kafka = match loaded {
        Ok(loaded) => loaded.job.spec.kafka.unwrap_or_default(),
        Err(error) if !args.files.is_empty() => return Err(error.into()),
        // A job that is not built in, without its file: brokers without passwords need no more.
        Err(_) => Default::default(),
    };
    let servers =
        servers.or_else(|| kafka.bootstrap_servers.clone()).unwrap_or_else(|| DEFAULT_BOOTSTRAP_SERVERS.to_owned());
    let settings = KafkaSourceSettings {
        job: &args.job,
        kafka: &kafka,
        routes: TopicRoutes::of_topics(asked),
        bootstrap_servers: &servers,
        secrets: Secrets::new(secrets_folder()),
        queue_bytes: QUEUE_BYTES,
        patient: false,
        rest_after: None,
        trouble: Trouble::default(),
        schemas: Arc::new(Schemas::none()),
    };
    let failed = |error| CommandError::Job(JobError::from(error));
    let mut source = KafkaSource::new(settings);
    let identity = source.identity().map_err(failed)?;
    let bounds = source.bounds().map_err(failed)?;
    if identity.cluster_id != state.start.cluster_id {
        return Err(CommandError::user(format!(
            "the log belongs to the Kafka cluster {}, but {servers} is the cluster {}",
            state.start.cluster_id, identity.cluster_id
        )));
    }
    let topics = identity.topics.into_iter().map(|(name, topic)| (name, topic.id)).collect();
    Ok(Some(KafkaNow { cluster_id: identity.cluster_id, topics, bounds }))
}

fn describe(
    place: &JobPlace,
    survey: &Survey,
    plan: &RewindPlan,
    facts: &RewindFacts,
    files: &[Vanishing],
    kafka: Option<&KafkaNow>,
) -> String {
    let mut out = String::new();
    let (to, after) = (plan.rewind.to, &plan.after);
    let goes_on = if plan.is_decided { "It was decided before and interrupted; this goes on with it.\n" } else { "" };
    let _ = writeln!(
        out,
        "{}: back to version {to}, from where version {} goes on\n{goes_on}",
        place.name,
        plan.version + 1
    );
    if let Some(damage) = &plan.damage {
        let _ = writeln!(out, "damaged      version {}: {}", damage.version, damage.problem);
    }
    let _ = writeln!(out, "commits      {} of {} stay", grouped(after.commits), commits(survey, plan));
    let _ = writeln!(out, "watermark    {}", time(after.watermark));
    let _ = writeln!(out, "state        {}", state_text(after, facts));
    out.push_str(&positions(survey, plan, kafka));
    out.push_str(&vanishing(plan, files));
    if !plan.records.is_empty() || !plan.bases.is_empty() {
        let folder = format!("{}/{}", place.store.root(), paths::rewound_object(plan.version, ""));
        let _ = writeln!(
            out,
            "{} records and {} bases of the log are moved to {}",
            plan.records.len(),
            plan.bases.len(),
            folder.trim_end_matches('/')
        );
    }
    for (topic, moved) in plan.rewind.topics.iter().filter(|(_, moved)| !moved.lost.is_empty()) {
        let lost = ranges_text(topic, &moved.lost);
        let _ = writeln!(out, "LOST: windows that are open miss the records of {lost} that they had");
    }
    out
}

/// Commits that the log has now, as far as that is known.
fn commits(survey: &Survey, plan: &RewindPlan) -> String {
    let void = plan.rewind.to + 1..plan.version;
    let later =
        survey.records.range(void).filter(|(_, slot)| !matches!(&slot.content, Ok(record) if !is_commit(record)));
    grouped(plan.after.commits + later.count() as u64)
}

fn is_commit(record: &Record) -> bool {
    matches!(record, Record::Commit(_))
}

fn state_text(after: &JobState, facts: &RewindFacts) -> String {
    if after.replay_from.is_none() {
        return "no window is open".to_owned();
    }
    let replay = |first: u64| after.replay.range(first..).count();
    match (after.usable_snapshot(), &facts.damaged_state) {
        (Some(snapshot), None) => {
            let version = snapshot.version;
            format!("snapshot of version {version}, whole; {} batches after it are read again", replay(version + 1))
        }
        (Some(_), Some(problem)) => {
            format!(
                "rebuilt from Kafka, {} batches are read again, since the snapshot cannot be used: {problem}",
                replay(0)
            )
        }
        (None, _) => format!("rebuilt from Kafka, {} batches are read again", replay(0)),
    }
}

/// Where each partition stands now, where it goes on, and whether Kafka still has what is needed.
fn positions(survey: &Survey, plan: &RewindPlan, kafka: Option<&KafkaNow>) -> String {
    let reached = reached(survey, plan);
    let needed = needed_offsets(&plan.after, true);
    let mut shown = list(&["topic", "partition", "now at", "goes on at", "Kafka must have", ""]);
    for (topic, partition, state) in plan.after.partitions.iter() {
        let now = reached.get(topic, partition);
        let from = needed.at(topic, partition).unwrap_or(state.position);
        let is_moved = plan.rewind.topics.get(topic).is_some_and(|moved| moved.positions.contains_key(&partition));
        let bounds = kafka.and_then(|kafka| kafka.bounds.get(topic, partition));
        let verdict = match bounds {
            Some(bounds) if bounds.earliest > from => format!("MISSING: [{from}, {}) are gone", bounds.earliest),
            Some(bounds) if bounds.end < state.position => format!("MISSING: it ends at {}", bounds.end),
            Some(_) => "it has".to_owned(),
            None if kafka.is_some() => "MISSING: no such partition".to_owned(),
            None => String::new(),
        };
        shown.add_row([
            topic.to_owned(),
            partition.to_string(),
            now.map_or_else(|| "-".to_owned(), |now| grouped(now.unsigned_abs())),
            grouped(state.position.unsigned_abs()),
            format!("{} on{}", grouped(from.unsigned_abs()), if is_moved { " (new)" } else { "" }),
            verdict,
        ]);
    }
    align_right(&mut shown, &[1, 2, 3, 4]);
    let hint = match kafka {
        None => "Kafka was not asked whether it has them: name it with --bootstrap-servers\n".to_owned(),
        Some(kafka) => format!("as the Kafka cluster {} says\n", kafka.cluster_id),
    };
    format!("\n{shown}\n{hint}")
}

/// The furthest that any readable record says of each partition.
fn reached(survey: &Survey, plan: &RewindPlan) -> Partitions<i64> {
    let mut reached = plan.before.positions();
    for (_, record) in survey.readable().filter(|(version, _)| *version > plan.rewind.to) {
        let Record::Commit(commit) = record else { continue };
        for (topic, partition, range) in commit.partitions.iter() {
            let known = reached.or_insert(topic, partition, range.end);
            *known = (*known).max(range.end);
        }
    }
    reached
}

/// The files that vanish, per output.
fn vanishing(plan: &RewindPlan, files: &[Vanishing]) -> String {
    if files.is_empty() {
        return "\nno file of an output is touched\n".to_owned();
    }
    let mut shown = list(&["output", "versions", "files", "rows", "size", "moved to"]);
    let roots: BTreeSet<_> = files.iter().map(|vanishing| &vanishing.root).collect();
    for root in roots {
        let of_root: Vec<_> = files.iter().filter(|vanishing| vanishing.root == *root).collect();
        let versions = of_root.iter().map(|vanishing| vanishing.file.version);
        let (first, last) = (versions.clone().min().unwrap_or_default(), versions.max().unwrap_or_default());
        let rows: u64 = of_root.iter().filter_map(|vanishing| vanishing.rows).sum();
        let unknown = of_root.iter().filter(|vanishing| vanishing.rows.is_none()).count();
        let rows =
            if unknown == 0 { grouped(rows) } else { format!("{} and {unknown} unreadable files", grouped(rows)) };
        shown.add_row([
            root.rsplit('/').next().unwrap_or(root).to_owned(),
            format!("{first} … {last}"),
            grouped(of_root.len() as u64),
            rows,
            bytes(of_root.iter().map(|vanishing| vanishing.file.bytes).sum()),
            paths::rewound_files(&plan.after.start.log_id, plan.version),
        ]);
    }
    align_right(&mut shown, &[2, 3, 4]);
    format!("\n{shown}\nreaders do not see them there; their records are read again, and their rows written again\n")
}
