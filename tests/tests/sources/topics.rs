//! A topic that goes away or comes back as another one.

use data_platform_tests::{Ended, Runner, needs_broker};
use serde_json::json;

use super::numbers::{NAME, Numbers, last_error, page, status};
use crate::events::TIMEOUT;

/// What must be said about a topic that was created again.
fn check_refusal(job: &Numbers, says: &str) {
    let topic = &job.topic;
    assert!(says.contains(&format!("the topic {topic} was deleted and created again")), "{says}");
    let cure = format!("data-platform checkpoint rewind {NAME} --topic-recreated {topic}");
    assert!(says.contains(&cure), "{says}");
}

#[test]
fn a_topic_that_is_deleted_is_waited_for_and_refused_when_it_comes_back_as_another() -> anyhow::Result<()> {
    let job = Numbers::new(needs_broker!(), "deleted", 1)?;
    job.produce(0, 0..100)?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 100)?;
    job.broker.delete_topic(&job.topic)?;
    let noticed = |runner: &Runner| status(runner).filter(|status| status["reason"] == "TopicNotFound");
    let status = runner.wait_for("the job to notice", TIMEOUT, noticed)?;
    assert_eq!((&status["phase"], &status["ready"]), (&json!("retrying"), &json!(false)), "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains(&format!("the topic {:?} does not exist", job.topic)), "{message}");
    let (code, health) = page(&runner, "/health").expect("it listens");
    assert_eq!(code, 503, "{health}");
    // The same name with other records: offsets 0 to 100 mean something else now.
    job.broker.create_topic(&job.topic, 1, &[])?;
    job.produce(0, 500..700)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(2), "{}", runner.last_lines());
    check_refusal(&job, &last_error(&runner));
    assert_eq!(job.numbers()?, Vec::from_iter(0..100), "nothing of it was read");
    // The cure works as it is told.
    let file = job.folders.root().join("job.yaml").display().to_string();
    job.ask(&["checkpoint", "rewind", NAME, "--topic-recreated", &job.topic, "-f", &file, "--yes"])?;
    job.drain()?;
    assert_eq!(job.numbers()?, Vec::from_iter((0..100).chain(500..700)));
    Ok(())
}

#[test]
fn a_topic_that_was_created_again_between_two_runs_is_refused_whatever_the_job_says_of_loss() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "recreated", 1)?;
    job.produce(0, 0..100)?;
    job.drain()?;
    job.broker.delete_topic(&job.topic)?;
    let says = job.drain_fails(1)?;
    assert!(says.contains(&format!("the topic {:?} does not exist", job.topic)), "{says}");
    job.broker.create_topic(&job.topic, 1, &[])?;
    for fail in [true, false] {
        job.set("/kafka/failOnDataLoss", json!(fail));
        check_refusal(&job, &job.drain_fails(2)?);
    }
    Ok(())
}
