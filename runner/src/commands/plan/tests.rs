use std::path::PathBuf;

use crate::args::PlaceArgs;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{Record, ReplayFrom, Start, encode};
use crate::commands::plan::before::Running;
use crate::commands::plan::judge::{Judgement, Outcome};
use crate::commands::plan::{code, show};
use crate::commands::run::options_of_places;
use crate::config::job::PlannedJob;
use crate::config::{JobSource, Loaded, load_one};
use crate::storage::paths;

/// Folders, and the built-in job event-aggregation in them.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> PlaceArgs {
        let text = |name: &str| Some(self.folder.path().join(name).display().to_string());
        PlaceArgs { outputs: text("outputs"), checkpoints: text("checkpoints"), namespace: None }
    }

    /// The job with these assignments, as in `--set`.
    fn job(&self, name: &str, set: &[&str]) -> Loaded {
        let set = set.iter().map(|assignment| (*assignment).to_owned()).collect();
        load_one(&JobSource { name: Some(name.to_owned()), set, ..JobSource::default() }).unwrap()
    }

    fn planned(&self, set: &[&str]) -> PlannedJob {
        let Loaded::Streaming(loaded) = self.job("event-aggregation", set) else { panic!("a streaming job") };
        let options = options_of_places(&self.place()).unwrap();
        PlannedJob::new(*loaded, &options.outputs).unwrap()
    }

    /// Writes the log of the job, with or without windows that are open.
    fn log(&self, set: &[&str], is_open: bool) {
        let planned = self.planned(set);
        let options = options_of_places(&self.place()).unwrap();
        let start = Start {
            log_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
            namespace: "local".to_owned(),
            job: planned.checkpoint().to_owned(),
            cluster_id: "c".to_owned(),
            topics: [].into(),
            offsets: crate::offsets::Partitions::new(),
            plan: planned.plan(&options).unwrap(),
            clock: 0,
            program: "0.1.0".to_owned(),
        };
        let mut state = JobState::begin(start.clone());
        if is_open {
            let outputs = [(planned.first().output.clone(), 0)].into();
            state.replay_from = Some(ReplayFrom { outputs, ..ReplayFrom::default() });
        }
        let folder = self.folder.path().join("checkpoints/local").join(planned.checkpoint());
        let write = |path: String, bytes: Vec<u8>| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write(paths::log_record(0), encode(0, &Record::Start(start)));
        write(paths::base(0), encode(0, &state));
    }

    fn judge(&self, before: Option<Loaded>, after: Loaded, sees_logs: bool) -> Judgement {
        let place = self.place();
        let running = Running::find(before, &after, sees_logs.then_some(&place)).unwrap();
        running.judge(after, &options_of_places(&place).unwrap()).unwrap()
    }
}

fn said(judged: &Judgement) -> (u8, String, String) {
    let json: serde_json::Value = serde_json::from_str(&show::json(std::slice::from_ref(judged))).unwrap();
    let job = &json["jobs"][0];
    assert_eq!(job["exitCode"], code(&judged.outcome));
    let text = show::text(std::slice::from_ref(judged));
    (code(&judged.outcome), job["effect"].as_str().unwrap().to_owned(), text)
}

const OTHER_WINDOW: &str = "spec.parameters.window=5 minutes";

#[test]
fn a_streaming_job_beside_its_old_file() {
    let world = World::new();
    for (set, expected, effect, says) in [
        (&[][..], 0, "nothing", "nothing"),
        (&["spec.trigger.interval=5s"], 0, "newPod", "~ trigger.interval: 10s -> 5s\n    new pod, state kept"),
        (&["spec.suspend=true"], 0, "stops", "stops, state kept"),
        (&[OTHER_WINDOW], 4, "freshState", "onQueryChange: rebuild"),
        (&[OTHER_WINDOW, "spec.onQueryChange=rebuild"], 4, "freshState", "computes the windows that are open anew"),
        (&[OTHER_WINDOW, "spec.onQueryChange=drain"], 4, "freshState", "closes its windows as they are"),
        (&[OTHER_WINDOW, "spec.onQueryChange=newLog"], 2, "refused", "set another checkpoint.name"),
        (&["spec.checkpoint.name=other"], 4, "freshState", "the output belongs to the log of the old one"),
        (&["spec.checkpoint.name=event-aggregation"], 0, "newPod", "the name is the one that it had"),
    ] {
        let (before, after) = (world.job("event-aggregation", &[]), world.job("event-aggregation", set));
        let judged = world.judge(Some(before), after, false);
        let (code, word, text) = said(&judged);
        assert_eq!((code, word.as_str()), (expected, effect), "{set:?}: {text}");
        assert!(text.contains(says), "{set:?}: {text}");
    }
}

#[test]
fn a_streaming_job_beside_its_log() {
    let world = World::new();
    let new = || world.judge(None, world.job("event-aggregation", &[]), true);
    assert_eq!(said(&new()).1, "new");
    world.log(&[], true);
    for (set, expected, effect, says) in [
        (&[][..], 0, "nothing", "windows are open: events_aggregated_realtime"),
        (&[OTHER_WINDOW], 4, "freshState", "needs fresh state (query)"),
        (&["spec.sink.path=other"], 0, "newPod", "~ sink.path"),
        (&["spec.checkpoint.name=other"], 4, "freshState", "the output belongs to the log of the old one"),
    ] {
        let judged = world.judge(None, world.job("event-aggregation", set), true);
        let (code, word, text) = said(&judged);
        assert_eq!((code, word.as_str()), (expected, effect), "{set:?}: {text}");
        assert!(text.contains(says), "{set:?}: {text}");
    }
    world.log(&[], false);
    let judged = world.judge(None, world.job("event-aggregation", &[OTHER_WINDOW]), true);
    assert_eq!(said(&judged).1, "newPod", "no window is open: {}", said(&judged).2);
}

#[test]
fn a_batch_job_beside_its_old_file() {
    let world = World::new();
    let text = crate::config::templates::find("hourly-aggregates").unwrap();
    let unscheduled: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("schedule:")).collect();
    let file = world.folder.path().join("once.yaml");
    std::fs::write(&file, unscheduled.join("\n")).unwrap();
    let scheduled = "spec.schedule=5 * * * *";
    for (before, after, expected, effect, says) in [
        (&[scheduled][..], &[scheduled][..], 0, "nothing", "nothing"),
        (&[scheduled], &[scheduled, "spec.wait=1m"], 0, "nextRun", "~ wait: 30m -> 1m\n    the next run has it"),
        (&[scheduled], &[scheduled, "spec.suspend=true"], 0, "stops", "no more runs"),
        (&[], &["spec.catchUp=3"], 0, "nothing", "~ catchUp"),
        (&[], &["spec.wait=1m"], 0, "runsAgain", "the job runs once more"),
        (&[], &["spec.checkpoint.name=x"], 2, "refused", "run once with --new-log"),
        (&[], &["spec.checkpoint.name=x", "spec.sink.path=other"], 0, "runsAgain", "~ sink.path"),
    ] {
        let job = |set: &[&str]| {
            let set = set.iter().map(|assignment| (*assignment).to_owned()).collect();
            load_one(&JobSource { files: vec![file.clone()], set, ..JobSource::default() }).unwrap()
        };
        let (code, word, text) = said(&world.judge(Some(job(before)), job(after), false));
        assert_eq!((code, word.as_str()), (expected, effect), "{after:?}: {text}");
        assert!(text.contains(says), "{after:?}: {text}");
    }
}

#[test]
fn a_job_that_only_the_old_file_has_is_gone_and_of_several_jobs_the_worst_counts() {
    let world = World::new();
    let gone = Judgement::gone(&world.job("event-aggregation", &[]));
    assert_eq!(gone.outcome, Outcome::Gone);
    assert!(said(&gone).2.contains("keeps outputs and checkpoint"));
    let file = |name: &str, text: &str| -> PathBuf {
        let path = world.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let text = crate::config::templates::find("event-aggregation").unwrap();
    let (old, new) = (file("old.yaml", text), file("new.yaml", &text.replace("1 minute", "2 minutes")));
    let args = crate::args::PlanArgs {
        job: crate::args::JobArgs { files: vec![new], ..Default::default() },
        against: Some(old),
        output: crate::args::PlanFormat::Json,
        place: PlaceArgs { outputs: world.place().outputs, checkpoints: None, namespace: None },
    };
    assert_eq!(super::plan(&args).unwrap(), 4);
}
