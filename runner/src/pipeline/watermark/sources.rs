//! The watermark over several sources: the least, each with its own delay, idle time and policy.
//!
//! Pure. A source that is idle as a whole leaves the minimum like an idle partition, so that a quiet table does not hold
//! the windows of the others for ever. The one with the greatest watermark never leaves: the watermark follows the data.

/// What the job's watermark needs to know of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceTime {
    /// Its own watermark over its partitions; `None` before the first valid record, and while a partition holds it.
    pub watermark: Option<i64>,
    /// Every partition is caught up, and none had a valid record for its idle time; or it never had a record, and the run
    /// is bounded.
    pub idle: bool,
}

/// The job's watermark, never before `previous`, and the source that holds it back, if one does.
pub fn over_sources(sources: &[SourceTime], previous: Option<i64>) -> (Option<i64>, Option<usize>) {
    let Some(latest) = sources.iter().filter_map(|source| source.watermark).max() else { return (previous, None) };
    let holds = |source: &SourceTime| source.watermark == Some(latest) || !source.idle;
    let holder =
        sources.iter().enumerate().filter(|(_, source)| holds(source)).min_by_key(|(_, source)| source.watermark);
    let (index, least) = holder.map_or((None, Some(latest)), |(index, source)| (Some(index), source.watermark));
    (previous.max(least), index.filter(|_| least != Some(latest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(watermark: impl Into<Option<i64>>, idle: bool) -> SourceTime {
        SourceTime { watermark: watermark.into(), idle }
    }

    #[test]
    fn the_least_source_that_is_not_idle_decides() {
        assert_eq!(over_sources(&[], Some(3)), (Some(3), None));
        assert_eq!(over_sources(&[source(7, true)], None), (Some(7), None), "one source never leaves");
        assert_eq!(over_sources(&[source(7, false), source(5, false)], None), (Some(5), Some(1)));
        assert_eq!(over_sources(&[source(7, false), source(5, true)], None), (Some(7), None));
        assert_eq!(over_sources(&[source(7, true), source(5, false)], None), (Some(5), Some(1)));
        assert_eq!(over_sources(&[source(7, true), source(5, true)], None), (Some(7), None));
        assert_eq!(over_sources(&[source(7, false), source(None, false)], None), (None, Some(1)));
        assert_eq!(over_sources(&[source(7, false), source(None, true)], Some(6)), (Some(7), None));
        assert_eq!(over_sources(&[source(None, false)], Some(6)), (Some(6), None));
    }

    proptest! {
        #[test]
        fn it_never_falls_and_never_passes_the_latest_source(
            sources in prop::collection::vec((prop::option::of(-100_i64..100), any::<bool>()), 0..5),
            previous in prop::option::of(-100_i64..100),
        ) {
            let sources: Vec<_> = sources.into_iter().map(|(watermark, idle)| source(watermark, idle)).collect();
            let (watermark, holder) = over_sources(&sources, previous);
            let latest = sources.iter().filter_map(|source| source.watermark).max();
            prop_assert!(watermark >= previous);
            prop_assert!(watermark <= latest.max(previous));
            if let Some(holder) = holder {
                prop_assert!(sources[holder].watermark < latest);
            }
        }
    }
}
