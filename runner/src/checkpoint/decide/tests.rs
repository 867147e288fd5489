use super::*;
use crate::checkpoint::record::{QueryPlan, Record, ReplayFrom, Start};

fn state() -> JobState {
    JobState::begin(Start {
        log_id: "l".to_owned(),
        namespace: "local".to_owned(),
        job: "j".to_owned(),
        cluster_id: "c".to_owned(),
        topics: BTreeMap::from([("t".to_owned(), "1".to_owned())]),
        offsets: crate::offsets::Partitions::new(),
        plan: plan("f", "s"),
        clock: 0,
        program: String::new(),
    })
}

fn plan(fingerprint: &str, state_fingerprint: &str) -> Plan {
    plan_of(fingerprint, &[("o", state_fingerprint)])
}

fn plan_of(fingerprint: &str, outputs: &[(&str, &str)]) -> Plan {
    let query = |(name, state): &(&str, &str)| {
        let query = QueryPlan { state_fingerprint: (*state).to_owned(), ..QueryPlan::default() };
        ((*name).to_owned(), query)
    };
    let queries = outputs.iter().map(query).collect();
    Plan { fingerprint: fingerprint.to_owned(), queries, ..Plan::default() }
}

fn candidate(owner: &str, generation: i64, pod: &str) -> Candidate {
    let rank = Rank { generation, ..Rank::default() };
    Candidate { owner: owner.to_owned(), rank, pod: pod.to_owned(), place: String::new() }
}

fn own(state: &mut JobState, candidate: Candidate) -> Own {
    let Candidate { owner, rank, pod, place } = candidate;
    let epoch = state.epoch() + 1;
    let own = Own { epoch, owner, rank, place, pod: Some(pod), partitions: None, clock: 0 };
    state.apply(state.version + 1, &Record::Own(own.clone())).unwrap();
    own
}

#[test]
fn a_starter_takes_over_unless_the_owner_ranks_higher() {
    let mut state = state();
    assert_eq!(take_over(&state, &candidate("a", 0, "p")), TakeOver::TakeEpoch(1));
    let present = own(&mut state, candidate("a", 1, "p"));
    assert_eq!(take_over(&state, &candidate("a", 1, "p")), TakeOver::GoOn);
    assert_eq!(take_over(&state, &candidate("b", 1, "p")), TakeOver::TakeEpoch(2), "its container started again");
    assert_eq!(take_over(&state, &candidate("b", 1, "q")), TakeOver::TakeEpoch(2), "a pod that nobody has seen yet");
    assert_eq!(take_over(&state, &candidate("b", 2, "q")), TakeOver::TakeEpoch(2));
    assert_eq!(take_over(&state, &candidate("b", 0, "q")), TakeOver::StopFenced(present));
}

#[test]
fn a_pod_that_a_later_one_superseded_does_not_come_back_unless_it_is_told_to() {
    let mut state = state();
    own(&mut state, candidate("a", 1, "p"));
    let present = own(&mut state, candidate("b", 1, "q"));
    let fenced = TakeOver::StopFenced(present);
    assert_eq!(take_over(&state, &candidate("a", 1, "p")), fenced, "the process that was fenced");
    assert_eq!(take_over(&state, &candidate("c", 1, "p")), fenced, "and the next one in its pod");
    assert_eq!(take_over(&state, &candidate("d", 1, "q")), TakeOver::TakeEpoch(3));
    let mut told = candidate("e", 1, "p");
    told.rank.takeover = 1;
    assert_eq!(take_over(&state, &told), TakeOver::TakeEpoch(3));
    own(&mut state, told);
    assert!(matches!(take_over(&state, &candidate("b", 1, "q")), TakeOver::StopFenced(_)));
}

#[test]
fn a_rank_of_format_1_is_lowest_whatever_its_clock_said() {
    let written = r#"{"generation":9223372036854775807,"started":9223372036854775807}"#;
    let rank: Rank = serde_json::from_str(written).unwrap();
    assert_eq!(rank, Rank::default());
    let new = Rank { takeover: 1, created: 2, generation: 3 };
    let text = serde_json::to_string(&new).unwrap();
    assert_eq!(serde_json::from_str::<Rank>(&text).unwrap(), new);
}

#[test]
fn a_slot_is_ours_only_if_it_holds_our_bytes() {
    let exists = Some(Created::AlreadyExists);
    assert_eq!(slot(b"x", Some(Created::Yes), None), SlotDecision::Ours);
    assert_eq!(slot(b"x", exists, Some(b"x")), SlotDecision::Ours);
    assert_eq!(slot(b"x", None, Some(b"x")), SlotDecision::Ours);
    assert_eq!(slot(b"x", exists, Some(b"y")), SlotDecision::Reload);
    assert_eq!(slot(b"x", None, Some(b"y")), SlotDecision::Reload);
    assert_eq!(slot(b"x", None, None), SlotDecision::TryAgain);
    assert_eq!(slot(b"x", exists, None), SlotDecision::Reload);
}

#[test]
fn the_log_is_read_on_behind_a_gap_and_to_its_end() {
    assert_eq!(next_slot(&[3, 4, 9], 3), NextSlot::Following(4));
    assert_eq!(next_slot(&[3, 4, 9], 4), NextSlot::BehindGap(9));
    assert_eq!(next_slot(&[3, 4, 9], 9), NextSlot::End);
    assert_eq!(next_slot(&[], 0), NextSlot::End);
}

#[test]
fn a_slot_below_a_base_is_withdrawn() {
    assert_eq!(base_check(7, &[]), BaseCheck::Publish);
    assert_eq!(base_check(7, &[3, 6]), BaseCheck::Publish);
    assert_eq!(base_check(7, &[3, 7]), BaseCheck::Withdraw);
    assert_eq!(base_check(7, &[90, 3]), BaseCheck::Withdraw);
}

#[test]
fn two_bases_and_every_record_after_the_older_one_are_kept() {
    assert_eq!(garbage_versions(&[], &[0, 1, 2]), (vec![], vec![]));
    assert_eq!(garbage_versions(&[500], &[0, 1, 500, 501]), (vec![], vec![]));
    assert_eq!(garbage_versions(&[3, 6], &[0, 1, 2, 3, 4, 5, 6, 7]), (vec![], vec![0, 1, 2, 3]));
    assert_eq!(garbage_versions(&[3, 6, 9], &[4, 5, 6, 7, 8, 9, 10]), (vec![3], vec![4, 5, 6]));
}

#[test]
fn a_changed_query_goes_on_only_if_its_state_fits_or_nothing_is_open() {
    let mut state = state();
    assert_eq!(change(&state, &plan("f", "s")), PlanChange::Same);
    assert_eq!(change(&state, &plan("g", "s")), PlanChange::Compatible);
    assert_eq!(change(&state, &plan("g", "z")), PlanChange::Compatible);
    let restarted = Plan { restart: Some("now".to_owned()), ..plan("f", "s") };
    assert_eq!(change(&state, &restarted), PlanChange::Compatible);
    open(&mut state, &["o"]);
    assert_eq!(change(&state, &plan("g", "s")), PlanChange::Compatible);
    assert_eq!(change(&state, &plan("g", "z")), PlanChange::StopChanged { outputs: vec!["o".to_owned()] });
    // An earlier version wrote another form of the same.
    let earlier = BTreeMap::from([("o".to_owned(), "s".to_owned())]);
    assert_eq!(plan_change(&state, &plan("f", "z"), &earlier), PlanChange::Compatible);
}

fn change(state: &JobState, plan: &Plan) -> PlanChange {
    plan_change(state, plan, &BTreeMap::new())
}

fn open(state: &mut JobState, outputs: &[&str]) {
    let outputs = outputs.iter().map(|output| ((*output).to_owned(), 1)).collect();
    state.replay_from = Some(ReplayFrom { version: 1, outputs, ..ReplayFrom::default() });
}

#[test]
fn only_an_output_with_open_windows_stops_for_its_query() {
    let mut state = state();
    state.plan = plan_of("f", &[("a", "1"), ("b", "2")]);
    open(&mut state, &["a"]);
    let stops = |plan: &Plan| match change(&state, plan) {
        PlanChange::StopChanged { outputs } => outputs.join(","),
        change => format!("{change:?}"),
    };
    assert_eq!(stops(&plan_of("g", &[("a", "1"), ("b", "9")])), "Compatible", "b holds nothing");
    assert_eq!(stops(&plan_of("g", &[("a", "9"), ("b", "2")])), "a");
    assert_eq!(stops(&plan_of("g", &[("b", "2")])), "a", "its rows would be lost");
    assert_eq!(stops(&plan_of("g", &[("a", "1"), ("b", "2"), ("c", "3")])), "Compatible");
    assert_eq!(stops(&plan_of("g", &[("other", "1"), ("b", "2")])), "Compatible", "it was renamed");
    assert_eq!(stops(&plan_of("g", &[("c", "1"), ("d", "1")])), "a", "which of the two goes on?");
}

#[test]
fn another_cluster_and_a_recreated_topic_are_noticed_and_a_new_topic_is_not_refused() {
    let topics = |topics: &[(&str, &str)]| -> BTreeMap<String, String> {
        topics.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
    };
    let state = state();
    let same = ClusterCheck::Same { new_topics: topics(&[("u", "9")]) };
    assert_eq!(cluster_check(&state, "c", &topics(&[("t", "1"), ("u", "9")])), same);
    assert!(matches!(cluster_check(&state, "d", &topics(&[])), ClusterCheck::StopOtherCluster { .. }));
    let recreated = cluster_check(&state, "c", &topics(&[("t", "2")]));
    assert!(matches!(recreated, ClusterCheck::StopTopicRecreated { .. }));
}

#[test]
fn brokers_that_tell_no_topic_ids_are_believed() {
    const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    assert!(!topic_id_is_known(NONE) && !topic_id_is_known(""));
    assert!(topic_id_is_known("AAAAAAAAAAAAAAAAAAAAAQ") && topic_id_is_known("1"));
    let now = |id: &str| BTreeMap::from([("t".to_owned(), id.to_owned())]);
    let mut state = state();
    assert!(matches!(cluster_check(&state, "c", &now(NONE)), ClusterCheck::Same { .. }));
    state.topics = now(NONE);
    assert!(matches!(cluster_check(&state, "c", &now("2")), ClusterCheck::Same { .. }));
}

#[test]
fn an_id_counts_from_the_time_on_that_the_brokers_tell_it() {
    const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    let topics = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(topic, id)| ((*topic).to_owned(), (*id).to_owned())).collect()
    };
    let known = topics(&[("told", "1"), ("untold", NONE), ("later", NONE)]);
    let told = topics(&[("told", NONE), ("untold", NONE), ("later", "3"), ("new", NONE)]);
    assert_eq!(ids_to_note(&known, &told), topics(&[("later", "3"), ("new", NONE)]));
    assert_eq!(ids_to_note(&known, &topics(&[("told", "2")])), topics(&[]), "that is a topic that was created again");
}

#[test]
fn state_objects_of_a_newer_owner_are_never_garbage() {
    let listed: Vec<_> =
        [paths::state_object(5, 1, 1, 0), paths::state_object(6, 1, 2, 0), paths::state_object(9, 2, 1, 0)]
            .map(|path| ObjectEntry { path, bytes: 0 })
            .into();
    let kept = BTreeSet::from([listed[1].path.clone()]);
    assert_eq!(garbage_state(&listed, &kept, 8), [listed[0].path.clone()]);
}

#[test]
fn staged_files_go_only_when_their_epoch_is_superseded_and_nothing_names_them() {
    let staged = |log: &str, epoch: u64| paths::staged_file(log, epoch, 5, 1, 0);
    let (old, pending, ours, theirs) = (staged("l", 1), staged("l", 0), staged("l", 2), staged("m", 1));
    let format1 = ["_staging/1/5-1-0.tmp", "_staging/1/6-2-0.tmp"].map(str::to_owned);
    let all = [old.clone(), pending.clone(), ours, theirs.clone(), format1[0].clone(), format1[1].clone()];
    let listed: Vec<_> = all.into_iter().map(|path| ObjectEntry { path, bytes: 0 }).collect();
    let pending = BTreeSet::from([pending, format1[1].clone()]);
    assert_eq!(garbage_staging(&listed, "l", 2, &pending), [old]);
    assert_eq!(garbage_of_others(&listed, "l"), [theirs]);
    assert_eq!(garbage_format1(&listed, &pending), [format1[0].clone()]);
}
