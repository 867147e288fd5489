//! docs/guides/add-a-streaming-job.md, followed word by word: its files are written as they stand there, its commands run, and
//! what it says they say is looked for. Two things stand in for what a user has: a producer for kcat, and a topic of this run.

use anyhow::{Context, bail, ensure};
use data_platform_tests::{Broker, JobFolders, Record, needs_broker, unique_topic};
use serde_json::Value;

use crate::demo::shell;

const GUIDE: &str = include_str!("../../docs/guides/add-a-streaming-job.md");
const TOPIC: &str = "topic_orders";

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub language: String,
    pub text: String,
}

/// The blocks of a section, with another name for the topic.
pub(crate) fn blocks(section: &str, topic: &str) -> anyhow::Result<Vec<Block>> {
    let (_, text) = GUIDE.split_once(&format!("\n## {section}\n")).with_context(|| format!("no section {section}"))?;
    let text = text.split("\n## ").next().unwrap_or(text).replace(TOPIC, topic);
    let fenced = text.split("\n```").skip(1).step_by(2).map(|block| {
        let (language, text) = block.split_once('\n').unwrap_or((block, ""));
        Block { language: language.to_owned(), text: text.to_owned() }
    });
    let blocks: Vec<_> = fenced.collect();
    ensure!(!blocks.is_empty(), "the section {section} has no block");
    Ok(blocks)
}

/// The only block of a language in a section.
pub(crate) fn block(section: &str, language: &str, topic: &str) -> anyhow::Result<String> {
    let mut found = blocks(section, topic)?.into_iter().filter(|block| block.language == language);
    let block = found.next().with_context(|| format!("no {language} in {section}"))?;
    ensure!(found.next().is_none(), "several blocks of {language} in {section}");
    Ok(block.text)
}

/// Each line that the guide shows is somewhere in what was said, but for the spaces.
pub(crate) fn check_said(shown: &str, said: &str) -> anyhow::Result<()> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = words(said);
    for line in shown.lines().map(words).filter(|line| !line.is_empty()) {
        ensure!(said.contains(&line), "the guide shows {line:?}, and this was said: {said}");
    }
    Ok(())
}

/// `kcat -P -b … -t TOPIC -l FILE`: a record for each line of a file.
fn produce(command: &str, folders: &JobFolders, broker: &Broker) -> anyhow::Result<()> {
    let words: Vec<_> = command.split(' ').collect();
    let ["kcat", "-P", "-b", "localhost:29092", "-t", topic, "-l", file] = words[..] else {
        bail!("nothing stands in for {command:?}");
    };
    let text = std::fs::read_to_string(folders.root().join(file))?;
    broker.produce(topic, text.lines().map(Record::new))
}

/// Runs the commands of a section and compares what they say with what the guide shows; gives what they said.
fn follow(section: &str, topic: &str, folders: &JobFolders, broker: &Broker) -> anyhow::Result<String> {
    let (mut all, mut last) = (String::new(), String::new());
    for block in blocks(section, topic)? {
        match block.language.as_str() {
            "sh" => {
                last.clear();
                for command in block.text.lines().filter(|line| !line.is_empty()) {
                    if command.starts_with("kcat ") {
                        produce(command, folders, broker)?;
                    } else {
                        last.push_str(&shell(command, folders, Some(broker.address()))?);
                    }
                }
                all.push_str(&last);
            }
            "text" => check_said(&block.text, &last).with_context(|| section.to_owned())?,
            "json" => std::fs::write(folders.root().join("orders.jsonl"), block.text + "\n")?,
            "yaml" => std::fs::write(folders.root().join("orders.yaml"), block.text + "\n")?,
            other => bail!("what is a block of {other:?} for?"),
        }
    }
    Ok(all)
}

#[test]
fn whoever_follows_the_guide_word_by_word_has_a_job_and_its_rows() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let (folders, topic) = (JobFolders::new()?, unique_topic("guide"));
    // Production makes a topic where the broker is told so; the one of the tests is not.
    broker.create_topic(&topic, 1, &[])?;
    let follow = |section: &str| follow(section, &topic, &folders, &broker);
    follow("1. The records")?;
    ensure!(broker.count_records(&topic)? == 6);
    follow("2. The job")?;
    follow("3. Check it before it runs")?;
    // As the guide proposes.
    let wrong = std::fs::read_to_string(folders.root().join("orders.yaml"))?.replace("sum(amount)", "sum(amuont)");
    std::fs::write(folders.root().join("wrong.yaml"), wrong)?;
    let refused = shell("data-platform validate -f wrong.yaml", &folders, None);
    let says = refused.err().context("a column that is not there is refused")?.to_string();
    ensure!(says.contains("amuont") && says.contains("amount"), "{says}");

    let summary: Value = serde_json::from_str(&follow("4. Run it")?)?;
    let figures = ["records", "accepted", "dead_letters", "rows"].map(|name| summary[name].as_u64());
    assert_eq!(figures, [Some(6), Some(5), Some(1), Some(4)], "as the guide says: {summary}");
    follow("5. Look at the rows").map(drop)
}
