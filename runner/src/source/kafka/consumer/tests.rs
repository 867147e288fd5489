use super::*;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const TOPIC: &str = "t";

fn source(servers: &str) -> KafkaSource {
    KafkaSource::new(KafkaSourceSettings {
        job: "j",
        kafka: &KafkaSpec::default(),
        routes: TopicRoutes::of_topics([TOPIC.to_owned()]),
        bootstrap_servers: servers,
        secrets: Secrets::new("/none"),
        queue_bytes: 16 << 20,
        patient: false,
        rest_after: None,
        trouble: Trouble::default(),
        schemas: Arc::new(Schemas::none()),
    })
}

fn produce(servers: &str, partition: i32, values: std::ops::Range<i32>) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    for value in values {
        let value = value.to_string();
        producer.send(BaseRecord::<str, str>::to(TOPIC).partition(partition).key("k").payload(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn read(source: &mut KafkaSource, ranges: &Partitions<(i64, i64)>) -> Vec<(i32, i64)> {
    let mut seen = Vec::new();
    let mut visit = |record: &Record<'_>| {
        seen.push((record.partition, record.offset));
        Ok(())
    };
    source.read(ranges, WithoutLeader::Await, &StopSignal::new(), &mut visit).unwrap();
    seen
}

fn ranges(ranges: &[(i32, (i64, i64))]) -> Partitions<(i64, i64)> {
    Partitions::of(TOPIC, ranges.iter().copied())
}

#[test]
fn exactly_the_planned_ranges_are_read_from_each_partition() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 0, 0..100);
    produce(&servers, 1, 0..50);
    let mut source = source(&servers);
    let identity = source.identity().unwrap();
    assert_eq!(identity.topics[TOPIC].partitions, 2);
    assert!(!identity.cluster_id.is_empty());
    let start = source.resolve(&StartingOffsets::Earliest).unwrap();
    assert_eq!(start[TOPIC], BTreeMap::from([(0, 0), (1, 0)]));
    assert_eq!(source.resolve(&StartingOffsets::Latest).unwrap()[TOPIC], BTreeMap::from([(0, 100), (1, 50)]));
    let bounds = source.bounds().unwrap();
    assert_eq!(bounds[TOPIC][&0], Bounds { earliest: 0, end: 100 });
    source.assign(&start).unwrap();
    let first = read(&mut source, &ranges(&[(0, (0, 30)), (1, (0, 50))]));
    assert_eq!(first.len(), 80);
    assert_eq!(
        first.iter().filter(|(partition, _)| *partition == 0).map(|(_, o)| *o).collect::<Vec<_>>(),
        Vec::from_iter(0..30)
    );
    let second = read(&mut source, &ranges(&[(0, (30, 100))]));
    assert_eq!(second.first(), Some(&(0, 30)));
    assert_eq!(second.len(), 70);
}

#[test]
fn partitions_that_come_to_a_running_job_get_their_part_of_the_queue_and_no_more() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 4, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 0, 0..10);
    produce(&servers, 3, 0..10);
    let mut source = source(&servers);
    source.identity().unwrap();
    // As it was when the topic had one partition.
    (source.partitions_expected, source.client) = (1, None);
    source.assign(&Partitions::of(TOPIC, [(0, 0)])).unwrap();
    assert_eq!(read(&mut source, &ranges(&[(0, (0, 5))])).len(), 5);
    let before = Arc::clone(source.client.as_ref().unwrap());
    source.assign(&Partitions::of(TOPIC, [(0, 5), (1, 0), (2, 0), (3, 0)])).unwrap();
    assert_eq!(source.partitions_expected, 4);
    assert!(!Arc::ptr_eq(&before, source.client.as_ref().unwrap()), "its limit is that of one partition");
    drop(before);
    assert_eq!(read(&mut source, &ranges(&[(0, (5, 10)), (3, (0, 10))])).len(), 15);
}

#[test]
fn a_partition_at_its_end_is_not_asked_for_beside_a_backlog_and_gives_later_what_comes_later() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 0, 0..20_000);
    produce(&servers, 1, 0..10);
    let mut source = source(&servers);
    Source::connect(&mut source);
    source.identity().unwrap();
    source.bounds().unwrap();
    source.assign(&Partitions::of(TOPIC, [(0, 0), (1, 0)])).unwrap();
    assert_eq!(read(&mut source, &ranges(&[(0, (0, 100)), (1, (0, 10))])).len(), 110);
    let paused =
        |source: &KafkaSource| [0, 1].map(|partition| source.partitions.get(TOPIC, partition).unwrap().is_paused);
    assert_eq!(paused(&source), [false, false], "there was no backlog to read");
    assert_eq!(read(&mut source, &ranges(&[(0, (100, 8_000))])).len(), 7_900);
    assert_eq!(paused(&source), [false, true]);
    produce(&servers, 1, 10..13);
    source.bounds().unwrap();
    let seen = read(&mut source, &ranges(&[(0, (8_000, 8_100)), (1, (10, 13))]));
    assert_eq!(
        seen.iter().filter(|(partition, _)| *partition == 1).map(|(_, at)| *at).collect::<Vec<_>>(),
        [10, 11, 12]
    );
    assert_eq!((seen.len(), paused(&source)), (103, [false, false]));
    // Also where it is assigned anew meanwhile.
    read(&mut source, &ranges(&[(0, (8_100, 16_000))]));
    assert_eq!(paused(&source), [false, true]);
    source.assign(&Partitions::of(TOPIC, [(0, 16_000), (1, 11)])).unwrap();
    let seen = read(&mut source, &ranges(&[(0, (16_000, 20_000)), (1, (11, 13))]));
    assert_eq!(seen.len(), 4_002);
}

#[test]
fn a_source_rests_only_where_everything_is_read_and_goes_on_where_it_was() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 0, 0..10);
    produce(&servers, 1, 0..10);
    let mut source = source(&servers);
    source.rest = Rest::new(Some(Duration::ZERO));
    source.identity().unwrap();
    source.assign(&Partitions::of(TOPIC, [(0, 0), (1, 0)])).unwrap();
    let fetches = |source: &mut KafkaSource| {
        source.bounds().unwrap();
        source.client.is_some()
    };
    assert!(fetches(&mut source), "all is there to be read");
    assert_eq!(read(&mut source, &ranges(&[(0, (0, 10)), (1, (0, 4))])).len(), 14);
    assert!(fetches(&mut source), "something is there to be read");
    assert_eq!(read(&mut source, &ranges(&[(1, (4, 10))])).len(), 6);
    assert!(!fetches(&mut source), "nothing is there to be read");
    produce(&servers, 1, 10..13);
    assert!(!fetches(&mut source), "it is read when it is planned");
    assert_eq!(read(&mut source, &ranges(&[(1, (10, 13))])), [(1, 10), (1, 11), (1, 12)]);
    source.rest = Rest::new(Some(Duration::from_secs(3_600)));
    assert!(fetches(&mut source), "it was busy a moment ago");
    source.rest = Rest::new(None);
    assert!(fetches(&mut source));
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let mut source = source("127.0.0.1:1");
    let error = source.identity().unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { servers, .. } if servers == "127.0.0.1:1"), "{error}");
}

#[test]
fn a_topic_that_is_not_there_is_named_with_a_similar_one() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("tt", 1, 1).unwrap();
    cluster.topic_error(TOPIC, rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = source(&cluster.bootstrap_servers()).identity().unwrap_err();
    assert!(matches!(&error, SourceError::TopicMissing { topic, .. } if topic == TOPIC), "{error}");
}
