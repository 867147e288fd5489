use super::*;

fn example() -> Record {
    let range = Range { start: 3, end: 9, records: 6, watermark: Some(1_000_000), active: 5, lost_until: None };
    Record::Commit(Box::new(Commit {
        epoch: 2,
        owner: "o".to_owned(),
        partitions: Partitions::of("t", [(0, range), (11, range)]),
        ..Commit::default()
    }))
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let bytes = encode(7, &example());
    assert_eq!(decode::<Record>(7, &bytes), Ok(example()));
    assert!(matches!(decode::<Record>(8, &bytes), Err(RecordError::Version { expected: 8, found: 7 })));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let bytes = encode(7, &example());
    for at in 0..bytes.len() {
        assert!(decode::<Record>(7, &bytes[..at]).is_err(), "truncated at {at}");
        for bit in 0..8 {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(read) = decode::<Record>(7, &wrong) {
                // A letter of a checksum in the other case is the same number; nothing else may pass.
                assert_eq!(read, example(), "byte {at} bit {bit}");
                panic!("byte {at} bit {bit} passed: {}", String::from_utf8_lossy(&wrong));
            }
        }
    }
}

#[test]
fn a_record_of_format_1_is_read_and_its_rank_is_the_lowest() {
    let body = r#"{"own":{"epoch":1,"owner":"o","rank":{"generation":7,"started":9},"place":"p","clock":5}}"#;
    let line = format!("{{\"format\":1,\"version\":3,\"xxh3\":\"{}\",\"body\":{body}}}\n", seal(3, body));
    let Ok(Record::Own(own)) = decode(3, line.as_bytes()) else { panic!("it is an own record") };
    assert_eq!((own.epoch, own.rank, own.pod), (1, Rank::default(), None));
}

#[test]
fn windows_end_between_two_times_or_they_do_not() {
    let ends = WindowEnds { step: 10, offset: 3 };
    for (one, other, none) in
        [(3, 12, true), (3, 13, false), (2, 3, false), (-7, 2, true), (-8, -7, false), (i64::MIN, i64::MAX, false)]
    {
        assert_eq!(ends.none_between(one, other), none, "{one} {other}");
    }
}

#[test]
fn a_newer_format_is_named() {
    let newer = String::from_utf8(encode(0, &example())).unwrap().replace("{\"format\":2", "{\"format\":3");
    let error = decode::<Record>(0, newer.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "it has format 3; this program reads formats 1 to 2");
}
