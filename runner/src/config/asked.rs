//! The outputs that a job asks for, of a streaming or a batch job: `query` with `sink`, or `outputs`.

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::sink::{OutputSpec, SinkSpec};

use crate::config::spec_field;

/// An output as the user asks for it, and where that stands.
pub(super) struct AskedOutput<'a> {
    pub(super) name: String,
    pub(super) sql: &'a str,
    pub(super) query_place: FieldPath,
    pub(super) sink: &'a SinkSpec,
    pub(super) sink_place: FieldPath,
}

/// `query` and `sink`, whose output is called like its folder, or `outputs`.
pub(super) fn asked_outputs<'a>(
    query: Option<&'a str>,
    sink: Option<&'a SinkSpec>,
    outputs: &'a [OutputSpec],
) -> Vec<AskedOutput<'a>> {
    let only = query.zip(sink).map(|(sql, sink)| AskedOutput {
        name: folder_name(sink).to_owned(),
        sql,
        query_place: spec_field("query"),
        sink,
        sink_place: spec_field("sink"),
    });
    let several = outputs.iter().enumerate().filter_map(|(index, output)| {
        let place = spec_field("outputs").index(index);
        Some(AskedOutput {
            name: output.name.clone(),
            sql: output.query.as_deref()?,
            query_place: place.field("query"),
            sink: &output.sink,
            sink_place: place.field("sink"),
        })
    });
    only.into_iter().chain(several).collect()
}

/// Name of the folder of a table, or of the topic; what goes to the screen is called `stdout`.
pub(super) fn folder_name(sink: &SinkSpec) -> &str {
    let path = sink.path.as_deref().or(sink.topic.as_deref()).unwrap_or("stdout");
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}
