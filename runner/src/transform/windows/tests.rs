//! Laws of the grids, against windows that are looked for one by one.

use proptest::prelude::*;

use super::*;

/// Starts of the windows that hold a time, by trying all that are near.
fn naive(slide: i64, size: i64, origin: i64, time: i64) -> Vec<i64> {
    let near = (time - size - 2 * slide - origin) / slide..=(time + 2 * slide - origin) / slide + 1;
    near.map(|number| origin + number * slide).filter(|start| (*start..*start + size).contains(&time)).collect()
}

fn assigned(grid: impl Grid, time: i64) -> Vec<i64> {
    let (first, last) = grid.span(time);
    std::iter::successors(Some(first), |start| Some(start + grid.slide())).take_while(|start| *start <= last).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn a_row_lies_in_the_windows_that_hold_its_time(
        slide in 1_i64..50, more in 0_i64..200, origin in -500_i64..500, time in -2_000_i64..2_000, scale in 0_u32..12,
    ) {
        // The same numbers as microseconds up to days; one beside the edge of a window too.
        let scale = 10_i64.pow(scale);
        let (slide, size, origin) = (slide * scale, (slide + more) * scale, origin * scale);
        for time in [time * scale, time * scale - 1] {
            let hop = Hop::new(slide, size, origin).unwrap();
            prop_assert_eq!(assigned(hop, time), naive(slide, size, origin, time));
            let tumble = Tumble::new(size, origin).unwrap();
            prop_assert_eq!(assigned(tumble, time), naive(size, size, origin, time));
        }
    }

    #[test]
    fn a_row_is_late_when_its_windows_are_closed(
        slide in 1_i64..50, more in 0_i64..200, origin in -500_i64..500,
        time in -2_000_i64..2_000, watermark in -2_000_i64..2_000,
    ) {
        let size = slide + more;
        let closed = |starts: &[i64]| starts.iter().filter(|start| **start + size <= watermark).count();
        let starts = naive(slide, size, origin, time);
        let bounds = WindowSpec::Hop(Hop::new(slide, size, origin).unwrap()).late_before(watermark).unwrap();
        prop_assert_eq!(time < bounds.all, closed(&starts) == starts.len());
        prop_assert_eq!(time < bounds.some, closed(&starts) > 0);
        let starts = naive(size, size, origin, time);
        let bounds = WindowSpec::Tumble(Tumble::new(size, origin).unwrap()).late_before(watermark).unwrap();
        prop_assert_eq!((time < bounds.all, time < bounds.some), (closed(&starts) == 1, closed(&starts) == 1));
    }

    #[test]
    fn an_event_alone_is_late_when_what_it_would_make_ends_before_the_watermark(
        gap in 1_i64..200, time in -2_000_i64..2_000, watermark in -2_000_i64..2_000,
    ) {
        let session = WindowSpec::Session(Session::new(gap, None).unwrap());
        prop_assert_eq!(session.is_surely_late(time, watermark), time + gap <= watermark);
        let tumble = WindowSpec::Tumble(Tumble::new(gap, 0).unwrap());
        let end = time.div_euclid(gap) * gap + gap;
        prop_assert_eq!(tumble.is_surely_late(time, watermark), end <= watermark);
    }

    #[test]
    fn the_edges_of_time_do_not_overflow(
        slide in 1_i64..i64::MAX, size in 1_i64..i64::MAX, origin in any::<i64>(), time in any::<i64>(),
    ) {
        let (slide, size) = (slide.min(size), slide.max(size));
        for time in [time, i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let hop = Hop::new(slide, size, origin).unwrap();
            let (first, last) = hop.span(time);
            prop_assert!(first <= last && last <= time);
            hop.end_of(last);
            LateBefore::of(hop, time);
            Tumble::new(size, origin).unwrap().end_of(Tumble::new(size, origin).unwrap().start_of(time));
        }
    }
}

#[test]
fn windows_are_aligned_to_the_epoch_also_before_it() {
    let minute = Tumble::new(60_000_000, 0).unwrap();
    for (time, start) in [
        (0, 0),
        (59_999_999, 0),
        (60_000_000, 60_000_000),
        (-1, -60_000_000),
        (-60_000_000, -60_000_000),
        (-60_000_001, -120_000_000),
    ] {
        assert_eq!(minute.start_of(time), start, "{time}");
        assert!((start..minute.end_of(start)).contains(&time));
    }
    assert_eq!(Tumble::new(0, 0), None);
    assert_eq!(Tumble::new(-5, 0), None);
    assert_eq!((Hop::new(0, 5, 0), Hop::new(6, 5, 0)), (None, None));
}
